"""8-bit activations: where a graph rounds them when TFLite runs it in integers, and the ranges that are learnt there.

TFLite fuses a convolution or dense layer with the batch normalization and the ReLU behind it and rounds only what comes out at the end. `places` finds these points in a Keras graph; each gets a
`SmartRange`, which follows the activations' range while training and rounds as TFLite will. Pooling by maximum, reshaping, padding and dropout hand on what is rounded already.
"""

import contextlib

import keras
from keras import layers, ops

MOMENTUM = 0.99
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
    """Rounds to 8 bits in a range that follows a moving average of the batches' smallest and largest value.

    Attributes:
        fixed: `(low, high)` that never changes, or None.
    """

    def __init__(self, name: str, fixed: tuple[float, float] | None = None):
        super().__init__(name=f"smart_{name}", dtype="float32")
        self.fixed = None if fixed is None else tuple(fixed)
        if self.fixed is None:
            self.low, self.high = (self.add_weight(name=side, shape=(), initializer="zeros", trainable=False, autocast=False, aggregation="mean") for side in ("low", "high"))
        self.batches = self.add_weight(name="batches", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica")
        self.built = True

    def call(self, x, training=None):
        dtype, x = x.dtype, ops.cast(x, "float32")
        if training:
            low, high = self._follow(x)
        else:
            low, high = self.bounds()
        return ops.cast(ops.where(self.batches.value > 0, fake_quantize(x, low, high), x), dtype)

    def bounds(self):
        return self.fixed or (self.low.value, self.high.value)

    def frozen(self):
        """A function that rounds as TFLite's converter reads it: in a constant range."""
        low, high = (float(ops.convert_to_numpy(bound)) for bound in self.bounds())
        return lambda x: fake_quantize(x, low, high)

    def _follow(self, x):
        first = ops.equal(self.batches.value, 0)
        if self.fixed is None:
            for variable, seen in ((self.low, ops.minimum(ops.min(x), 0.0)), (self.high, ops.maximum(ops.max(x), 0.0))):
                seen = ops.stop_gradient(seen)
                variable.assign(ops.where(first, seen, variable.value + (1 - MOMENTUM) * (seen - variable.value)))
        self.batches.assign(self.batches.value + 1)
        return self.bounds()


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
    """Where the layers of a Sequential or functional model round: id of the layer -> place (`input`, `before_activation`, `output`) -> fixed range or None."""
    users, producers = _neighbours(model)
    found: dict[int, dict] = {}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        here = found.setdefault(id(layer), {})
        if any(isinstance(producer, layers.InputLayer) and "float" in str(producer.dtype) for producer in producers.get(id(layer), ())):
            here["input"] = None
        if isinstance(layer, (*_HANDS_ON, keras.Model)) or _fused(layer, users.get(id(layer), [])):
            continue
        function = _function(layer)
        here["output"] = _FIXED_RANGES.get(function)
        if isinstance(layer, _WEIGHTED) and function not in ("linear", "relu", "relu6"):
            here["before_activation"] = None
    return {key: value for key, value in found.items() if value}


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


def _neighbours(model) -> tuple[dict[int, list], dict[int, list]]:
    """id of a layer -> layers that read it (the model itself where it is an output), and -> layers that it reads."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    users, producers = {}, {}
    for node in (node for nodes in graph._nodes_by_depth.values() for node in nodes):
        for parent in node.parent_nodes:
            users.setdefault(id(parent.operation), []).append(node.operation)
            producers.setdefault(id(node.operation), []).append(parent.operation)
    for tensor in keras.tree.flatten(graph.outputs):
        users.setdefault(id(tensor._keras_history.operation), []).append(model)
    return users, producers
