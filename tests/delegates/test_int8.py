"""Full-integer layers: every output byte equals that of LiteRT's reference kernels, on every instruction set."""

import dataclasses

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tests.delegates import models
from tests.delegates.running import invoke, make_interpreter


@dataclasses.dataclass(frozen=True)
class Layer:
    """An integer layer with random weights; `filter_shape` as in TFLite: (n, h, w, i), (1, h, w, n) for depthwise, (n, k) for fully connected."""

    x_shape: tuple
    filter_shape: tuple
    depthwise: bool = False
    stride: tuple = (1, 1)
    dilation: tuple = (1, 1)
    padding: str = "SAME"
    activation: str = "NONE"
    bias: bool = True
    per_channel: bool = True
    x_zero_point: int = 5
    y_zero_point: int = -9
    y_scale: float | None = None
    codec: str = "rans"
    panels_per_tile: int = 1

    @property
    def axis(self) -> int:
        return 3 if self.depthwise else 0

    @property
    def num_channels(self) -> int:
        return self.filter_shape[self.axis]

    @property
    def fully_connected(self) -> bool:
        return len(self.filter_shape) == 2


X_SCALE = 0.043


def build(layer: Layer, rng) -> tuple[bytes, bytes]:
    """The layer as a model of ours and as a builtin model."""
    weight = models.random_weight(rng, layer.filter_shape, layer.axis, value_kind="integer", codec=layer.codec, panels_per_tile=layer.panels_per_tile)
    n, k = weight.num_channels, weight.channel_elements
    scales = rng.uniform(0.002, 0.02, n if layer.per_channel else 1).astype(np.float32)
    # About what a calibration would choose: few results are clamped, none of the 256 values is rare.
    y_scale = layer.y_scale or X_SCALE * 0.01 * 700 * np.sqrt(k) / 60
    bias = rng.integers(-3000, 3000, n).astype(np.int32) if layer.bias else None
    return tuple(model(layer, weight, scales, y_scale, bias) for model in (smart_model, builtin_model))


def start_model(layer: Layer, scales, y_scale, bias):
    model = models.ModelBuilder()
    x = model.tensor("x", layer.x_shape, "int8")
    y = model.tensor("y", (*layer.x_shape[:-1], layer.num_channels) if layer.fully_connected else (1, 1, 1, layer.num_channels), "int8")
    model.quantize(x, X_SCALE, layer.x_zero_point)
    model.quantize(y, y_scale, layer.y_zero_point)
    b = -1
    if bias is not None:
        b = model.constant("bias", bias)
        model.quantize(b, X_SCALE * scales)
    return model, x, y, b


def smart_model(layer: Layer, weight, scales, y_scale, bias) -> bytes:
    model, x, y, b = start_model(layer, scales, y_scale, bias)
    inputs = [x, model.packed("filter", weight), b, model.constant("scales", scales)]
    if layer.fully_connected:
        model.custom("TFLiteSmart.FullyConnected", inputs, [y], {"activation": layer.activation, "keep_num_dims": 1})
        return model.build([x], [y])
    options = {
        **models.CONV_OPTIONS, "padding": layer.padding, "activation": layer.activation, "stride_h": layer.stride[0], "stride_w": layer.stride[1],
        "dilation_h": layer.dilation[0], "dilation_w": layer.dilation[1], "filter_h": layer.filter_shape[1], "filter_w": layer.filter_shape[2],
    }  # fmt: skip
    if layer.depthwise:
        model.custom("TFLiteSmart.DepthwiseConv2D", inputs, [y], {**options, "depth_multiplier": layer.num_channels // layer.x_shape[3]})
    else:
        model.custom("TFLiteSmart.Conv2D", inputs, [y], {**options, "filter_in": layer.filter_shape[3]})
    return model.build([x], [y])


def builtin_model(layer: Layer, weight, scales, y_scale, bias) -> bytes:
    from tflite_smart.converter.format import from_matrix

    model, x, y, b = start_model(layer, scales, y_scale, bias)
    filters = model.constant("filter", from_matrix(weight.ids(), layer.filter_shape, layer.axis))
    model.quantize(filters, scales, axis=layer.axis)
    options = schema.FullyConnectedOptionsT() if layer.fully_connected else schema.DepthwiseConv2DOptionsT() if layer.depthwise else schema.Conv2DOptionsT()
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, layer.activation)
    if layer.fully_connected:
        options.keepNumDims = True
        model.builtin("FULLY_CONNECTED", [x, filters, b], [y], options)
        return model.build([x], [y])
    options.padding = getattr(schema.Padding, layer.padding)
    (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor) = layer.stride, layer.dilation
    if layer.depthwise:
        options.depthMultiplier = layer.num_channels // layer.x_shape[3]
    # The builtin convolution insists on a bias.
    inputs = [x, filters, b if b >= 0 else model.constant("bias", np.zeros(layer.num_channels, np.int32))]
    model.builtin("DEPTHWISE_CONV_2D" if layer.depthwise else "CONV_2D", inputs, [y], options)
    return model.build([x], [y])


def check(rng, layer: Layer, **options) -> np.ndarray:
    smart, builtin = build(layer, rng)
    reference = Interpreter(model_content=builtin, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    x = rng.integers(-128, 128, layer.x_shape).astype(np.int8)
    expected, got = invoke(reference, x), invoke(make_interpreter(smart, **options), x)
    assert len(np.unique(expected)) > min(16, expected.size // 8), "the comparison must compare something"
    np.testing.assert_array_equal(got, expected)
    return got


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride, dilation", [((1, 1), (1, 1)), ((2, 1), (1, 1)), ((1, 3), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 1)), ((1, 1), (2, 3))])
@pytest.mark.parametrize("filter_size", [(1, 1), (3, 3), (2, 5)])
def test_conv2d_geometry(rng, isa, filter_size, stride, dilation, padding):
    check(rng, Layer((2, 11, 13, 5), (34, *filter_size, 5), stride=stride, dilation=dilation, padding=padding))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride, dilation", [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 3))])
@pytest.mark.parametrize("filter_size", [(1, 1), (3, 3), (2, 5), (5, 5)])
@pytest.mark.parametrize("channels", [5, 32, 47])
def test_depthwise_geometry(rng, isa, channels, filter_size, stride, dilation, padding):
    check(rng, Layer((2, 11, 13, channels), (1, *filter_size, channels), depthwise=True, stride=stride, dilation=dilation, padding=padding))


@pytest.mark.parametrize("n", [*range(1, 71)])
def test_channels(rng, isa, n):
    check(rng, Layer((1, 4, 5, 3), (n, 2, 2, 3)))
    check(rng, Layer((1, 4, 5, n), (1, 3, 3, n), depthwise=True))
    check(rng, Layer((5, 24), (n, 24)))


@pytest.mark.parametrize("multiplier", [2, 3, 8])
@pytest.mark.parametrize("channels", [1, 4, 17, 33])
def test_depth_multiplier(rng, isa, channels, multiplier):
    check(rng, Layer((1, 6, 7, channels), (1, 3, 3, channels * multiplier), depthwise=True))


@pytest.mark.parametrize("groups, per_group_in, per_group_out", [(2, 8, 16), (3, 4, 24), (4, 2, 7), (2, 300, 20), (5, 3, 1), (16, 4, 4), (40, 2, 3), (2, 5, 40)])
def test_groups(rng, isa, groups, per_group_in, per_group_out):
    check(rng, Layer((1, 6, 5, groups * per_group_in), (groups * per_group_out, 3, 3, per_group_in)))


# A packed row holds 1152 or 576 values of k, the scratch 4096 or 2048 of a whole panel; beyond that a layer runs in pieces.
@pytest.mark.parametrize("panels_per_tile", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 31, 287, 289, 575, 577, 1151, 1153, 2047, 2050, 4095, 4097, 9001])
def test_reduction_length(rng, isa, k, panels_per_tile):
    check(rng, Layer((3, k), (70, k), panels_per_tile=panels_per_tile))
    check(rng, Layer((1, 4, 4, k), (70, 1, 1, k), panels_per_tile=panels_per_tile))


def test_pieces_of_many_positions(rng, isa):
    check(rng, Layer((1, 20, 20, 520), (33, 3, 3, 520)))  # 4680: two or three pieces, more positions than sums can wait
    check(rng, Layer((1, 6, 6, 2 * 520), (20, 3, 3, 520)))  # two groups in one panel
    check(rng, Layer((1, 60, 50, 4), (1, 50, 47, 4), depthwise=True))  # 2350 taps


@pytest.mark.parametrize(
    "layer",
    [
        Layer((1, 20, 20, 64), (96, 3, 3, 64)),
        Layer((1, 11, 13, 3), (34, 3, 3, 3), stride=(2, 2)),
        Layer((1, 11, 13, 70), (1, 3, 3, 70), depthwise=True),
        Layer((1, 6, 5, 80), (120, 3, 3, 2)),
        Layer((1, 300), (200, 300), panels_per_tile=2),
        Layer((1, 300), (200, 300), codec="bitpack"),
    ],
)
def test_kept_panels(rng, isa, layer):
    seed = int(rng.integers(1 << 30))
    decoded, kept = (check(np.random.default_rng(seed), layer, cache_bytes=cache_bytes, num_threads=2) for cache_bytes in (0, 1 << 20))
    np.testing.assert_array_equal(decoded, kept)


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU_N1_TO_1", "RELU6"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_epilogue(rng, isa, activation, per_channel, bias):
    for y_zero_point in (-128, -9, 0, 100):
        common = dict(activation=activation, per_channel=per_channel, bias=bias, y_zero_point=y_zero_point)
        check(rng, Layer((1, 5, 7, 8), (40, 3, 3, 8), **common))
        check(rng, Layer((1, 5, 7, 40), (1, 3, 3, 40), depthwise=True, **common))
        check(rng, Layer((9, 31), (40, 31), **common) if bias or per_channel else Layer((9, 31), (40, 31)))


@pytest.mark.parametrize("zero_point", [-128, -1, 0, 1, 127])
def test_input_zero_points(rng, isa, zero_point):
    check(rng, Layer((1, 5, 7, 9), (40, 3, 3, 9), x_zero_point=zero_point))
    check(rng, Layer((1, 5, 7, 40), (1, 3, 3, 40), depthwise=True, x_zero_point=zero_point))
    check(rng, Layer((9, 31), (40, 31), x_zero_point=zero_point))


@pytest.mark.parametrize("y_scale", [1e-5, 1e-4, 4e-4, 1e-3, 30.0])
def test_requantization_at_its_edges(rng, isa, y_scale):
    """Factors above one half, above one, and tiny ones."""
    rng_x = np.random.default_rng(3)
    for layer in (Layer((1, 5, 7, 1), (40, 1, 1, 1), y_scale=y_scale), Layer((1, 5, 7, 40), (1, 1, 1, 40), depthwise=True, y_scale=y_scale), Layer((9, 1), (40, 1), y_scale=y_scale)):
        smart, builtin = build(layer, rng)
        reference = Interpreter(model_content=builtin, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        reference.allocate_tensors()
        x = rng_x.integers(-128, 128, layer.x_shape).astype(np.int8)
        np.testing.assert_array_equal(invoke(make_interpreter(smart), x), invoke(reference, x))


@pytest.mark.parametrize("shift", [2, 3, 5, 8, 11])
@pytest.mark.parametrize("off", [0.0, -1e-6, 1e-6])
def test_sums_halfway_between_two_integers(rng, isa, shift, off):
    """Where every way of rounding differs from every other: all products of two bytes, times a power of two or nearly that."""
    layer = Layer((1, 16, 16, 1), (96, 1, 1, 1), bias=False, x_zero_point=-3)
    weight = models.random_weight(rng, layer.filter_shape, layer.axis, value_kind="integer")
    y_scale = float(np.float32(X_SCALE) * np.float32(2.0 ** (shift - 7)) * np.float32(1 + off))
    smart, builtin = (model(layer, weight, np.full(96, 2.0**-7, np.float32), y_scale, None) for model in (smart_model, builtin_model))
    reference = Interpreter(model_content=builtin, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    x = np.arange(-128, 128).astype(np.int8).reshape(layer.x_shape)
    np.testing.assert_array_equal(invoke(make_interpreter(smart), x), invoke(reference, x))


def test_large_biases(rng, isa):
    """A channel whose weights are next to nothing has a tiny scale, and a bias as large as int32 goes."""
    for layer in (Layer((1, 5, 7, 9), (96, 1, 1, 9)), Layer((9, 31), (96, 31))):
        weight = models.random_weight(rng, layer.filter_shape, layer.axis, value_kind="integer")
        bias = rng.integers(-(2**31) + 2**20, 2**31 - 2**20, 96).astype(np.int32)
        scales = rng.uniform(0.002, 0.02, 96).astype(np.float32)
        smart, builtin = (model(layer, weight, scales, X_SCALE * 0.01 * 2**24, bias) for model in (smart_model, builtin_model))
        reference = Interpreter(model_content=builtin, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        reference.allocate_tensors()
        x = rng.integers(-128, 128, layer.x_shape).astype(np.int8)
        got = invoke(make_interpreter(smart), x)
        np.testing.assert_array_equal(got, invoke(reference, x))
        assert len(np.unique(got)) > 60


@pytest.mark.parametrize("codec", ["raw", "bitpack", "rans", "sparse"])
def test_codecs(rng, isa, codec):
    check(rng, Layer((1, 6, 6, 20), (50, 3, 3, 20), codec=codec))


def test_threads_give_the_same(rng, isa):
    for layer in (Layer((1, 40, 40, 32), (96, 3, 3, 32)), Layer((1, 60, 60, 96), (1, 3, 3, 96), depthwise=True), Layer((64, 512), (300, 512))):
        seed = int(rng.integers(1 << 30))
        one, two = (check(np.random.default_rng(seed), layer, num_threads=threads) for threads in (1, 2))
        np.testing.assert_array_equal(one, two)


def test_input_is_not_read_past_its_end(rng, isa):
    """Narrow channels at the end of the input: what lies behind is another tensor's, or no memory at all."""
    for channels in (1, 3, 31, 33):
        check(rng, Layer((1, 3, 3, channels), (1, 3, 3, channels), depthwise=True, padding="VALID"))


# --- refusals


def refused(layer, rng, capfd, edit) -> str:
    weight = models.random_weight(rng, layer.filter_shape, layer.axis, value_kind="integer")
    model, x, y, b = start_model(layer, np.full(layer.num_channels, 0.01, np.float32), 0.1, np.zeros(layer.num_channels, np.int32))
    inputs = [x, model.packed("filter", weight), b]
    edit(model, inputs, y)
    model.custom("TFLiteSmart.FullyConnected", inputs, [y], {"activation": "NONE", "keep_num_dims": 0})
    with pytest.raises((RuntimeError, ValueError)) as error:
        make_interpreter(model.build([x], [y]))
    return str(error.value) + capfd.readouterr().err


@pytest.mark.parametrize(
    "edit, expected",
    [
        (lambda model, inputs, y: None, "weight scales"),
        (lambda model, inputs, y: inputs.append(model.constant("scales", np.ones(7, np.float32))), "weight scales must be 1 or 40. Received: 7"),
        (lambda model, inputs, y: inputs.append(model.constant("scales", np.full(40, np.nan, np.float32))), "finite"),
        (lambda model, inputs, y: inputs.append(model.constant("scales", np.ones(40, np.int32))), "weight scales type must be float32"),
        (lambda model, inputs, y: (inputs.append(model.constant("scales", np.ones(40, np.float32))), model.quantize(y, 0.0)), "output must have one scale > 0"),
        (lambda model, inputs, y: (inputs.append(model.constant("scales", np.ones(40, np.float32))), model.quantize(inputs[0], 0.1, 300)), "zero_point=300"),
    ],
)
def test_refuses(rng, capfd, edit, expected):
    assert expected in refused(Layer((2, 16), (40, 16)), rng, capfd, edit)
