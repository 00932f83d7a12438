"""8-bit activations: where a graph rounds them when TFLite runs it in integers, and the ranges that are learnt there.

TFLite fuses a convolution or dense layer with the batch normalization and the ReLU behind it and rounds only what comes out at the end. `places` finds these points in a Keras graph; each gets a
`SmartRange`, which rounds as TFLite will. Pooling by maximum, reshaping, padding and dropout hand on what is rounded already.
"""

import contextlib
import math

import keras
from keras import layers, ops
from keras.src.models.functional import Functional  # has no public name

from tflite_smart.converter.errors import UnsupportedModelError

MOMENTUM = 0.99
LEARNED = "learned"
WARM_UP_BATCHES = 20
# What TFLite prescribes for the outputs of these functions.
_FIXED_RANGES = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
_HANDS_ON = (
    layers.InputLayer, layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D,
    layers.GaussianNoise, layers.GaussianDropout, layers.ActivityRegularization, layers.Identity, layers.MaxPooling1D, layers.MaxPooling2D, layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D,
    layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping1D, layers.Cropping2D, layers.UpSampling1D,
)  # fmt: skip
_WEIGHTED = (layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.Conv2DTranspose)
_TAKES_RELU = (*_WEIGHTED, layers.BatchNormalization, layers.Add, layers.Subtract, layers.Multiply)


class SmartRange(keras.layers.Layer):
    """Rounds to 8 bits in a range.

    It follows a moving average of the batches' smallest and largest value, or, if learned, does so for the first `WARM_UP_BATCHES` and then follows the optimizer: what is clipped pulls at its bound
    (PACT, arXiv:1805.06085; the pull is scaled as in LSQ, arXiv:1902.08153, section 2.2, or it would grow with the number of activations).

    Attributes:
        kind: None for the moving average, `LEARNED`, or `(low, high)` that never changes.
    """

    def __init__(self, name: str, kind: str | tuple[float, float] | None = None):
        super().__init__(name=f"smart_{name}", dtype="float32", autocast=False)  # the activations' own type comes in and goes out
        self.kind = tuple(kind) if isinstance(kind, (tuple, list)) else kind
        if not self._fixed:
            options = {"shape": (), "initializer": "zeros", "trainable": kind == LEARNED, "autocast": False, "aggregation": "mean"}
            self.low, self.high = (self.add_weight(name=side, **options) for side in ("low", "high"))
        self.batches = self.add_weight(name="batches", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica")
        self.built = True

    @property
    def _fixed(self) -> bool:
        return isinstance(self.kind, tuple)

    def call(self, x, training=None):
        dtype, x = x.dtype, ops.cast(x, "float32")
        if training:
            self._follow(x)
        low, high = self.bounds()
        if self.kind == LEARNED:
            pull = 1 / math.sqrt(255 * math.prod(x.shape[1:]))
            low, high = (bound * pull + ops.stop_gradient(bound * (1 - pull)) for bound in (low, high))
        rounded = fake_quantize(x, low, high)
        # While training a batch has been seen by now; choosing would be a pass over the activations, and two more for the gradients.
        return ops.cast(rounded if training else ops.where(self.batches.value > 0, rounded, x), dtype)

    def bounds(self):
        """`(low, high)`, tensors or numbers; 0 lies between them."""
        return self.kind if self._fixed else (ops.minimum(self.low.value, 0.0), ops.maximum(self.high.value, 0.0))

    def frozen(self):
        """A function that rounds as TFLite's converter reads it: in a constant range. Raises UnsupportedModelError: no training has found that range yet."""
        if not self._fixed and int(self.batches.numpy()) == 0:
            raise UnsupportedModelError(
                "activation_bits: the ranges of activations must be known from training. Received: no batch so far. Train the wrapped model before you convert it; "
                "a subclassed model is only told that it trains if its call has an argument `training`."
            )
        low, high = (float(ops.convert_to_numpy(bound)) for bound in self.bounds())
        return lambda x: fake_quantize(x, low, high)

    def _follow(self, x) -> None:
        count = self.batches.value
        if not self._fixed:
            rate = ops.where(count > 0, 1 - MOMENTUM, 1.0)
            if self.kind == LEARNED:
                rate = ops.where(count < WARM_UP_BATCHES, rate, 0.0)
            for variable, seen in ((self.low, ops.min(x)), (self.high, ops.max(x))):
                variable.assign(variable.value + rate * (ops.stop_gradient(seen) - variable.value))
        self.batches.assign(count + 1)


def fake_quantize(x, low, high):
    """`x` clipped to `[low, high]` and rounded to 256 steps, the range nudged so that 0 is one of them; gradients pass inside it. TensorFlow's own operator, as its converter knows no other."""
    import tensorflow as tf

    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=8)


def call_with_ranges(layer, ranges: dict, call, args: tuple, kwargs: dict):
    """Calls a layer with its ranges put in their places."""
    if "input" in ranges:
        args = (keras.tree.map_structure(ranges["input"], args[0]), *args[1:])
    with _before_activation(layer, ranges["before_activation"]) if "before_activation" in ranges else contextlib.nullcontext():
        outputs = call(layer, *args, **kwargs)
    return ranges["output"](outputs) if "output" in ranges else outputs


@contextlib.contextmanager
def _before_activation(layer, rounding):
    activation = layer.__dict__["activation"]
    layer.__dict__["activation"] = lambda x: activation(rounding(x))
    try:
        yield
    finally:
        layer.__dict__["activation"] = activation


def places(model) -> dict[int, dict[str, tuple[float, float] | None]]:
    """Where the layers of a model round: id of the layer -> place (`input`, `before_activation`, `output`) -> fixed range or None. Empty for a model without a graph, see `graph_of`.

    Operations that are no layers (`x + y` of two activations) have no place of their own: whoever reads them rounds its input.
    """
    graph = graph_of(model)
    if graph is None:
        return {}
    users, producers = _neighbours(graph, model)
    found: dict[int, dict] = {}
    for layer in graph.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        here = found.setdefault(id(layer), {})
        if any(_unrounded(producer, layer) for producer in producers.get(id(layer), ())):
            here["input"] = None
        if isinstance(layer, (*_HANDS_ON, keras.Model)) or _fused(layer, users.get(id(layer), [])):
            continue
        function = _function(layer)
        here["output"] = _FIXED_RANGES.get(function)
        if isinstance(layer, _WEIGHTED) and function not in ("linear", "relu", "relu6"):
            here["before_activation"] = None
    return {key: value for key, value in found.items() if value}


def graph_of(model):
    """The functional model of a Sequential, functional or subclassed model, made of the same layers; None where it can't be had.

    The `call` of a subclassed model is run once on symbols, which works if it is written with layers and `keras.ops`.
    """
    if isinstance(model, keras.Sequential):
        return model._functional
    if isinstance(model, Functional):
        return model
    shapes = input_shapes(model)
    if shapes is None:
        return None
    try:
        inputs = keras.tree.map_shape_structure(lambda shape: keras.Input(tuple(shape[1:])), shapes)
        return Functional(inputs, type(model).call(model, inputs))
    except Exception:  # a user's code raises what it likes when it meets a symbol
        return None


def input_shapes(model):
    """Shapes, in their structure, of the one argument that a subclassed model was built with; None where it was none or several. Keras keeps them under no public name."""
    shapes = model._build_shapes_dict or {}
    return next(iter(shapes.values())) if len(shapes) == 1 else None


def _unrounded(producer, reader) -> bool:
    """Whether what a layer reads is a float input or comes out of an operation that is no layer; a reader that only hands it on, or is a ReLU, rounds behind itself."""
    if isinstance(producer, layers.InputLayer):
        return "float" in str(producer.dtype) and not isinstance(reader, layers.Embedding)
    return not isinstance(producer, keras.layers.Layer) and not isinstance(reader, (*_HANDS_ON, layers.ReLU, keras.Model))


def _fused(layer, users: list) -> bool:
    """Whether TFLite computes what follows in the same operator."""
    if len(users) != 1 or _function(layer) != "linear":
        return False
    if isinstance(users[0], layers.BatchNormalization):
        return isinstance(layer, _WEIGHTED)
    return isinstance(layer, _TAKES_RELU) and _function(users[0]) in ("relu", "relu6") and isinstance(users[0], (layers.ReLU, layers.Activation))


def _function(layer) -> str:
    """Name of the activation function that a layer ends with."""
    if isinstance(layer, layers.ReLU):
        plain = not layer.negative_slope and not layer.threshold
        return {None: "relu", 6: "relu6"}.get(layer.max_value, "other") if plain else "other"
    if isinstance(layer, layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else getattr(activation, "__name__", "other")


def _neighbours(graph, model) -> tuple[dict[int, list], dict[int, list]]:
    """id of a layer -> layers that read it (the model where it is an output), and -> layers that it reads."""
    users, producers = {}, {}
    for node in (node for nodes in graph._nodes_by_depth.values() for node in nodes):
        for parent in node.parent_nodes:
            users.setdefault(id(parent.operation), []).append(node.operation)
            producers.setdefault(id(node.operation), []).append(parent.operation)
    for tensor in keras.tree.flatten(graph.outputs):
        users.setdefault(id(tensor._keras_history.operation), []).append(model)
    return users, producers
