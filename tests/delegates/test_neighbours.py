"""PAD, ADD, HARD_SWISH and swish beside a convolution: done on the way where that can be, a step of their own elsewhere."""

import math

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.delegates import models
from tests.delegates.running import invoke, make_interpreter, run

ACTIVATIONS = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6)}


def conv_node(model, weight, x, y, *, stride=1, padding="VALID", activation="NONE"):
    """Our convolution of 32 input channels, with a square filter, between tensors x and y."""
    filter_size = math.isqrt(weight.channel_elements // 32)
    options = {**models.CONV_OPTIONS, "filter_h": filter_size, "filter_w": filter_size, "filter_in": 32, "stride_h": stride, "stride_w": stride,
               "padding": padding, "activation": activation}
    model.custom("TFLiteSmart.Conv2D", [x, model.packed("filter", weight), -1], [y], options)


def add_node(model, inputs, y, activation="NONE"):
    options = schema.AddOptionsT()
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, activation)
    model.builtin("ADD", inputs, [y], options)


def pad_node(model, x, y, sizes):
    model.builtin("PAD", [x, model.constant("sizes", np.array(sizes, np.int32))], [y])


def pad_model(weight, sizes, shapes, *, shown=False, **options):
    """x -> PAD -> convolution. shapes: x, padded, y. shown: the padded tensor is an output too."""
    model = models.ModelBuilder()
    x, padded, y = (model.tensor(name, shape) for name, shape in zip(("x", "padded", "y"), shapes))
    pad_node(model, x, padded, sizes)
    conv_node(model, weight, padded, y, **options)
    return model.build([x], [y, padded] if shown else [y])


def add_model(weight, shape, activation, *, residual_shape=None, shown=False, conv_first=True):
    """y = convolution(x) + r, 1x1. shown: the convolution's tensor is an output too."""
    model = models.ModelBuilder()
    x, r, between, y = (model.tensor(name, s) for name, s in zip("xrby", (shape, residual_shape or shape, shape, shape)))
    conv_node(model, weight, x, between, activation="RELU")
    add_node(model, [between, r] if conv_first else [r, between], y, activation)
    return model.build([x, r], [y, between] if shown else [y])


def is_one_node(interpreter) -> bool:
    """Whether all of the model became one node of ours: what is left to the runtime becomes another, of XNNPACK."""
    return [op["op_name"] for op in interpreter._get_ops_details()].count("DELEGATE") == 1


def conv(weight, x, filter_size, **options):
    """The convolution alone, of what is already padded."""
    return run(models.conv_model(x.shape, weight, (filter_size, filter_size, 32), **{"padding": "VALID", **options}), x)


@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((0, 1), (0, 1)), ((2, 0), (1, 2))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("filter_size", [3, 5])
def test_pad(rng, isa, pads, stride, filter_size):
    weight = models.random_weight(rng, (40, filter_size, filter_size, 32), 0)
    x = rng.normal(size=(2, 9, 12, 32)).astype(np.float32)
    sizes = ((0, 0), *pads, (0, 0))
    padded = np.pad(x, sizes)
    expected = conv(weight, padded, filter_size, stride_h=stride, stride_w=stride)
    content = pad_model(weight, sizes, (x.shape, padded.shape, expected.shape), stride=stride)
    interpreter = make_interpreter(content)
    assert is_one_node(interpreter)
    # Zeros that are multiplied and zeros that are skipped: the same sums but for rounding, as Winograd's tiles begin elsewhere.
    np.testing.assert_allclose(invoke(interpreter, x), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("sizes, options", [
    (((0, 0), (1, 1), (1, 1), (0, 0)), {"padding": "SAME"}),
    (((0, 0), (3, 0), (0, 0), (0, 0)), {}),  # as many zeros as the filter has rows
    (((1, 0), (1, 1), (1, 1), (0, 0)), {}),
    (((0, 0), (1, 1), (1, 1), (0, 0)), {"shown": True}),
])  # fmt: skip
def test_pads_that_are_steps_of_their_own(rng, sizes, options):
    weight = models.random_weight(rng, (40, 3, 3, 32), 0)
    x = rng.normal(size=(1, 9, 12, 32)).astype(np.float32)
    padded = np.pad(x, sizes)
    expected = conv(weight, padded, 3, padding=options.get("padding", "VALID"))
    interpreter = make_interpreter(pad_model(weight, sizes, (x.shape, padded.shape, expected.shape), **options))
    assert is_one_node(interpreter)
    np.testing.assert_array_equal(invoke(interpreter, x), expected)
    if "shown" in options:
        np.testing.assert_array_equal(interpreter.get_tensor(interpreter.get_output_details()[1]["index"]), padded)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("conv_first", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_add(rng, isa, activation, conv_first, num_threads):
    weight = models.random_weight(rng, (32, 1, 1, 32), 0)
    x, r = (rng.normal(size=(1, 30, 41, 32)).astype(np.float32) for _ in range(2))
    interpreter = make_interpreter(add_model(weight, x.shape, activation, conv_first=conv_first), num_threads=num_threads)
    assert is_one_node(interpreter)
    expected = np.clip(conv(weight, x, 1, activation="RELU") + r, *ACTIVATIONS[activation])
    np.testing.assert_array_equal(run_both(interpreter, x, r), expected)


def run_both(interpreter, x, r):
    interpreter.set_tensor(interpreter.get_input_details()[1]["index"], r)
    return invoke(interpreter, x)


@pytest.mark.parametrize("shape", [(1, 1, 1, 32), (1, 1, 3, 32), (1, 5, 7, 32)])
def test_add_of_every_length(rng, isa, shape):
    weight = models.random_weight(rng, (32, 1, 1, 32), 0)
    x, r = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    interpreter = make_interpreter(add_model(weight, shape, "NONE"))
    np.testing.assert_array_equal(run_both(interpreter, x, r), conv(weight, x, 1, activation="RELU") + r)


@pytest.mark.parametrize("options", [{"residual_shape": (1, 1, 1, 32)}, {"shown": True}])
def test_adds_that_are_steps_of_their_own(rng, options):
    weight = models.random_weight(rng, (32, 1, 1, 32), 0)
    x, r = rng.normal(size=(1, 4, 5, 32)).astype(np.float32), rng.normal(size=options.get("residual_shape", (1, 4, 5, 32))).astype(np.float32)
    interpreter = make_interpreter(add_model(weight, x.shape, "NONE", **options))
    assert is_one_node(interpreter)
    np.testing.assert_array_equal(run_both(interpreter, x, r), conv(weight, x, 1, activation="RELU") + r)


def test_two_convolutions_added(rng):
    """One of the two takes the ADD, and runs after the other."""
    first, second = (models.random_weight(rng, (32, 1, 1, 32), 0) for _ in range(2))
    x = rng.normal(size=(1, 6, 7, 32)).astype(np.float32)
    model = models.ModelBuilder()
    tensors = [model.tensor(name, x.shape) for name in "xaby"]
    conv_node(model, first, tensors[0], tensors[1])
    conv_node(model, second, tensors[0], tensors[2])
    add_node(model, tensors[1:3], tensors[3])
    interpreter = make_interpreter(model.build(tensors[:1], tensors[3:]))
    np.testing.assert_array_equal(invoke(interpreter, x), conv(first, x, 1) + conv(second, x, 1))


def test_an_output_added_to_itself(rng):
    weight = models.random_weight(rng, (32, 1, 1, 32), 0)
    x = rng.normal(size=(1, 6, 7, 32)).astype(np.float32)
    model = models.ModelBuilder()
    tensors = [model.tensor(name, x.shape) for name in "xby"]
    conv_node(model, weight, tensors[0], tensors[1])
    add_node(model, [tensors[1], tensors[1]], tensors[2])
    interpreter = make_interpreter(model.build(tensors[:1], tensors[2:]))
    np.testing.assert_array_equal(invoke(interpreter, x), 2 * conv(weight, x, 1))


def curve_model(weight, shape, curve, *, shown=False):
    """y = curve(convolution(x)), 1x1. shown: the convolution's tensor is an output too."""
    model = models.ModelBuilder()
    x, between, y = (model.tensor(name, shape) for name in "xby")
    conv_node(model, weight, x, between)
    if curve == "HARD_SWISH":
        model.builtin("HARD_SWISH", [between], [y])
    else:
        logistic = model.tensor("l", shape)
        model.builtin("LOGISTIC", [between], [logistic])
        model.builtin("MUL", [between, logistic] if curve == "swish" else [logistic, logistic], [y], schema.MulOptionsT())
    return model.build([x], [y, between] if shown else [y])


CURVES = {
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "swish": lambda x: x / (1 + np.exp(-x)),
    "squared logistic": lambda x: 1 / (1 + np.exp(-x)) ** 2,
}


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("curve", ["HARD_SWISH", "swish"])
@pytest.mark.parametrize("shape", [(1, 1, 3, 32), (1, 30, 41, 32)])
def test_curves(rng, isa, shape, curve, num_threads):
    """Eight roundings follow each other where an exponential is computed: 1e-6 of the result; below -80 what remains of it is denormal."""
    weight = models.random_weight(rng, (32, 1, 1, 32), 0)
    x = (rng.normal(size=shape) * rng.choice([0.01, 1, 30], shape)).astype(np.float32)
    y = conv(weight, x, 1).astype(np.float64)
    assert y.max() > 20 and y.min() < -20
    interpreter = make_interpreter(curve_model(weight, shape, curve), num_threads=num_threads)
    assert is_one_node(interpreter)
    np.testing.assert_allclose(invoke(interpreter, x), CURVES[curve](y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("curve, shown", [("HARD_SWISH", True), ("swish", True), ("squared logistic", False)])
def test_curves_that_are_steps_of_their_own(rng, curve, shown):
    weight = models.random_weight(rng, (32, 1, 1, 32), 0)
    x = rng.normal(size=(1, 4, 5, 32)).astype(np.float32)
    interpreter = make_interpreter(curve_model(weight, x.shape, curve, shown=shown))
    assert is_one_node(interpreter)
    np.testing.assert_allclose(invoke(interpreter, x), CURVES[curve](conv(weight, x, 1).astype(np.float64)), rtol=1e-5, atol=1e-5)


def test_batches_that_differ_are_an_error(rng):
    weight = models.random_weight(rng, (32, 1, 1, 32), 0)
    interpreter = make_interpreter(add_model(weight, (1, 4, 5, 32), "NONE"), resize=(2, 4, 5, 32))
    with pytest.raises(RuntimeError, match="residual shape must be that of the output"):
        run_both(interpreter, np.zeros((2, 4, 5, 32), np.float32), np.zeros((1, 4, 5, 32), np.float32))
