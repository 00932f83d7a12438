"""Which attribute of which Keras layer is a weight, and where its output channels lie. A layer that is not in the table but made of layers that are (LSTM, MultiHeadAttention, your own) is found through its parts."""

from keras import layers

from tflite_smart.methods.base import Layout


def _last(shape, layer):
    return Layout(shape, (len(shape) - 1,), tuple(range(len(shape) - 2)))


def _last_two(shape, layer):
    return Layout(shape, (len(shape) - 2, len(shape) - 1), tuple(range(len(shape) - 2)))


def _last_but_one(shape, layer):
    return Layout(shape, (len(shape) - 2,), tuple(range(len(shape) - 2)))


def _first(shape, layer):
    return Layout(shape, (0,))


def _of_equation(shape, layer):
    """The kernel's letters that the output has and the input lacks: `abc,cde->abde` has channels d and e."""
    inputs, rest = layer.equation.split(",")
    kernel, outputs = rest.split("->")
    return Layout(shape, tuple(axis for axis, letter in enumerate(kernel.strip()) if letter in outputs and letter not in inputs))


# (class, {attribute: layout}); a layer takes the first row whose class it is.
WEIGHTS = [
    (layers.Dense, {"kernel": _last}),
    (layers.EinsumDense, {"kernel": _of_equation}),
    (layers.Embedding, {"embeddings": _first}),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), {"kernel": _last_two}),
    ((layers.SeparableConv1D, layers.SeparableConv2D), {"depthwise_kernel": _last_two, "pointwise_kernel": _last}),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), {"kernel": _last_but_one}),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), {"kernel": _last}),
    ((layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell), {"kernel": _last, "recurrent_kernel": _last}),
]


def class_attributes(layer_class: type) -> dict:
    """Attribute name -> function of the weight's shape and the layer that gives its `Layout`; empty for a class without weights of its own."""
    return next((attributes for classes, attributes in WEIGHTS if issubclass(layer_class, classes)), {})


def layout(layer, attribute: str, shape) -> Layout:
    """Where the channels of a layer's weight lie."""
    return class_attributes(type(layer))[attribute](tuple(shape), layer)
