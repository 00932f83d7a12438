"""`compute=int8`: every output equals the formula in numpy bit for bit, on every instruction set."""

import dataclasses
import functools

import numpy as np
import pytest

from tests.delegates import models
from tests.delegates.conv_reference import conv2d
from tests.delegates.running import run
from tflite_smart.converter.format import Quantized, from_matrix

LIMITS = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6)}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A float layer; `filter_shape` as in TFLite: (n, h, w, i), (n, k) for fully connected."""

    x_shape: tuple
    filter_shape: tuple
    stride: tuple = (1, 1)
    dilation: tuple = (1, 1)
    padding: str = "SAME"
    activation: str = "NONE"
    bias: bool = True
    panels_per_tile: int = 1

    def model(self, weight, bias, **options) -> bytes:
        if len(self.filter_shape) == 2:
            return models.fully_connected_model(self.x_shape, weight, bias=bias, activation=self.activation, keep_num_dims=1, **options)
        options |= {"padding": self.padding, "activation": self.activation, "stride_h": self.stride[0], "stride_w": self.stride[1]}
        return models.conv_model(self.x_shape, weight, self.filter_shape[1:], bias=bias, dilation_h=self.dilation[0], dilation_w=self.dilation[1], **options)


def quantize(x: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Integers `q - zero_point` of one image and the scale: int8_dynamic.cc and XNNPACK's qd8 in float32, operation by operation."""
    low, high = min(np.float32(0), x.min()), max(np.float32(0), x.max())
    inverse = np.float32(255) / (high - low) if high - low > 1e-36 else np.float32(1)
    error = (low * inverse - np.float32(128)) + (high * inverse + np.float32(127))
    zero = np.float32(-128) - low * inverse if error > 0 else np.float32(127) - high * inverse
    zero_point = np.rint(np.clip(zero, np.float32(-128), np.float32(127)))
    return np.clip(np.rint(x * inverse) + zero_point, -128, 127) - zero_point, np.float32(1) / inverse


def expected(layer: Layer, x: np.ndarray, weight, bias) -> np.ndarray:
    images = x.reshape(-1, 1, 1, x.shape[-1]) if x.ndim == 2 else x
    shape = layer.filter_shape if x.ndim == 4 else (layer.filter_shape[0], 1, 1, layer.filter_shape[1])
    odd = weight.value_kind == "midrise"
    ids = from_matrix(weight.ids(), shape, 0).astype(np.int64) * (2 if odd else 1) + odd
    scales = weight.scales * np.float32(0.5 if odd else 1)
    quantized = [quantize(image) for image in images]
    sums = conv2d(np.stack([q for q, _ in quantized]), ids, stride=layer.stride, dilation=layer.dilation, padding=layer.padding)
    factors = np.stack([scale * scales for _, scale in quantized])[:, None, None, :]
    y = sums.astype(np.float32) * factors + (np.float32(0) if bias is None else bias)
    y = np.clip(y, *np.array(LIMITS[layer.activation], np.float32))
    return y.reshape(x.shape[0], -1) if x.ndim == 2 else y


def check(rng, layer: Layer, weight=None, **options) -> np.ndarray:
    n = layer.filter_shape[0]
    weight = weight or models.random_weight(rng, layer.filter_shape, 0, panels_per_tile=min(layer.panels_per_tile, -(-n // 32)))
    bias = rng.normal(size=n).astype(np.float32) if layer.bias else None
    x = (rng.normal(size=layer.x_shape) + rng.uniform(-1, 1)).astype(np.float32)
    got = run(layer.model(weight, bias), x, compute="int8", **options)
    np.testing.assert_array_equal(got, expected(layer, x, weight, bias))
    return got


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride, dilation", [((1, 1), (1, 1)), ((2, 1), (1, 1)), ((1, 3), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 3))])
@pytest.mark.parametrize("filter_size", [(1, 1), (3, 3), (2, 5)])
def test_geometry(rng, isa, filter_size, stride, dilation, padding):
    check(rng, Layer((2, 11, 13, 5), (34, *filter_size, 5), stride=stride, dilation=dilation, padding=padding))


@pytest.mark.parametrize("n", [1, 2, 7, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 97])
def test_channels(rng, isa, n):
    check(rng, Layer((1, 4, 5, 3), (n, 2, 2, 3)))
    check(rng, Layer((1, 5, 5, n), (20, 3, 3, n)))
    check(rng, Layer((5, 24), (n, 24)))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 9, 11, 12, 13, 25])
def test_rows(rng, isa, rows):
    check(rng, Layer((rows, 70), (50, 70)))
    check(rng, Layer((1, 1, rows, 70), (16, 1, 1, 70)))


@functools.lru_cache(maxsize=None)
def long_weight(n: int, k: int, panels_per_tile: int):
    """The same for every instruction set, as numpy takes its time to encode it."""
    return models.random_weight(np.random.default_rng(k), (n, k), 0, panels_per_tile=panels_per_tile)


# Row buffers, batches of panels and pieces of k end at such numbers.
@pytest.mark.parametrize("panels_per_tile", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 31, 127, 129, 577, 1153, 4097, 8193])
def test_reduction_length(rng, isa, k, panels_per_tile):
    n = 230 if k < 600 else 70
    weight = long_weight(n, k, panels_per_tile)
    for rows in (1, 3, 16):
        check(rng, Layer((rows, k), (n, k)), weight)
    check(rng, Layer((1, 2, 4, k), (n, 1, 1, k)), weight)


@pytest.mark.parametrize("groups, per_group_in, per_group_out", [(2, 8, 16), (3, 4, 24), (4, 2, 7), (2, 300, 20), (2, 5, 40)])
def test_groups(rng, isa, groups, per_group_in, per_group_out):
    check(rng, Layer((1, 6, 5, groups * per_group_in), (groups * per_group_out, 3, 3, per_group_in)))


def test_large_images(rng, isa):
    check(rng, Layer((1, 22, 300, 64), (7, 3, 3, 64)))
    check(rng, Layer((2, 70, 90, 24), (7, 1, 1, 24), stride=(2, 2)))
    check(rng, Layer((1, 3, 1800, 60), (7, 2, 2, 60)))


def test_long_windows(rng, isa):
    check(rng, Layer((1, 5, 6, 1600), (9, 3, 3, 1600)))
    check(rng, Layer((1, 4, 4, 2 * 1500), (6, 3, 3, 1500)))


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU_N1_TO_1", "RELU6"])
@pytest.mark.parametrize("bias", [True, False])
def test_epilogue(rng, isa, activation, bias):
    check(rng, Layer((1, 5, 7, 8), (40, 3, 3, 8), activation=activation, bias=bias))
    check(rng, Layer((9, 31), (40, 31), activation=activation, bias=bias))


@pytest.mark.parametrize("codec", ["raw", "bitpack", "rans", "sparse"])
def test_codecs(rng, isa, codec):
    check(rng, Layer((1, 6, 6, 20), (50, 3, 3, 20)), models.random_weight(rng, (50, 3, 3, 20), 0, codec=codec))


@pytest.mark.parametrize("panels_per_tile", [1, 2])
@pytest.mark.parametrize("deviation", [0, 0.3, 1, 3, 9, 25])  # 0 to 7 planes
def test_one_row_from_bit_planes(rng, isa, deviation, panels_per_tile):
    for n, k in ((96, 300), (70, 132), (33, 31), (32, 4)):
        ids = np.clip(np.rint(rng.normal(0, deviation, (n, k))), -128, 127).astype(np.int64)
        for outliers in (0, 1 + ids.size // 400, ids.size // 3):  # escapes: none, a few, many in a row
            ids.flat[rng.choice(ids.size, outliers, replace=False)] = rng.integers(-128, 128, outliers)
            quantized = Quantized(ids, "uniform", rng.uniform(0.01, 0.03, n).astype(np.float32))
            check(rng, Layer((1, k), (n, k)), models.pack(quantized, k, "bitpack", panels_per_tile=min(panels_per_tile, -(-n // 32))))


@pytest.mark.parametrize("codec, low, high", [("bitpack", -1, 0), ("rans", -5, 4), ("bitpack", -64, 63)])
def test_midrise_as_odd_integers(rng, isa, codec, low, high):
    ids = rng.integers(low, high + 1, (50, 180))
    weight = models.pack(Quantized(ids, "midrise", rng.uniform(0.01, 0.03, 50).astype(np.float32)), 180, codec)
    check(rng, Layer((1, 6, 6, 20), (50, 3, 3, 20)), weight)


@pytest.mark.parametrize("x", [np.zeros((2, 40)), np.full((2, 40), 3.5), np.full((2, 40), -3.5), np.full((2, 40), 1e-42), np.linspace(-1, 1e-3, 80).reshape(2, 40)])
def test_ranges_at_their_edges(rng, isa, x):
    layer, weight, x = Layer((2, 40), (33, 40), bias=False), models.random_weight(rng, (33, 40), 0), x.astype(np.float32)
    np.testing.assert_array_equal(run(layer.model(weight, None), x, compute="int8"), expected(layer, x, weight, None))


@pytest.mark.parametrize("values", [[np.inf], [-np.inf], [np.nan], [np.inf, np.nan], [np.nan, np.inf, np.nan]])
@pytest.mark.parametrize("k", [40, 203])
def test_no_finite_range_gives_no_numbers(rng, isa, values, k):
    """Wherever they stand: vectors' minima and maxima forget a NaN at the next number, and what was before it (found by the fuzzer)."""
    layer, weight = Layer((2, k), (33, k)), models.random_weight(rng, (33, k), 0)
    x = rng.normal(size=(2, k)).astype(np.float32)
    x[1, rng.choice(k, len(values), replace=False)] = values
    got = run(layer.model(weight, None), x, compute="int8")
    assert np.isfinite(got[0]).all() and np.isnan(got[1]).all()


def test_threads_give_the_same(rng, isa):
    for layer in (Layer((1, 60, 60, 32), (96, 3, 3, 32)), Layer((64, 512), (300, 512)), Layer((1, 700), (400, 700)), Layer((1, 170, 170, 16), (8, 1, 1, 16))):
        seed = int(rng.integers(1 << 30))
        one, three = (check(np.random.default_rng(seed), layer, num_threads=threads) for threads in (1, 3))
        np.testing.assert_array_equal(one, three)


# --- who decides


def outputs(rng, layer: Layer, weight) -> dict[str, np.ndarray]:
    """By what the operator says and what the delegate is told."""
    x = rng.normal(size=layer.x_shape).astype(np.float32)
    said = {"nothing": {}, "f32": {"compute": "f32"}, "int8": {"compute": "int8"}}
    return {f"{op}/{told}": run(layer.model(weight, None, **options), x, compute=told) for op, options in said.items() for told in ("auto", "f32", "int8")}


@pytest.mark.parametrize("layer", [Layer((1, 6, 6, 20), (50, 3, 3, 20)), Layer((3, 64), (50, 64))])
def test_the_operator_asks_and_the_option_overrides(rng, layer):
    y = outputs(rng, layer, models.random_weight(rng, layer.filter_shape, 0))
    assert not np.array_equal(y["nothing/f32"], y["nothing/int8"])
    for name, output in y.items():
        told = name.split("/")[1] if not name.endswith("auto") else "int8" if name.startswith("int8") else "f32"
        np.testing.assert_array_equal(output, y[f"nothing/{told}"], err_msg=name)


@pytest.mark.parametrize(
    "layer, options",
    [
        (Layer((1, 6, 6, 20), (50, 3, 3, 20)), {"value_kind": "codebook"}),
        (Layer((1, 6, 6, 20), (50, 3, 3, 20)), {"value_kind": "midrise"}),  # has escapes: an id may be anything
        (Layer((1, 6, 6, 60), (60, 3, 3, 2)), {}),  # 30 groups
        (Layer((1, 70000), (3, 70000)), {}),  # sums could leave an int32
    ],
)
def test_layers_that_stay_in_floats(rng, layer, options):
    y = outputs(rng, layer, models.random_weight(rng, layer.filter_shape, 0, **options))
    assert all(np.array_equal(output, y["nothing/f32"]) for output in y.values())


def test_depthwise_stays_in_floats(rng):
    weight = models.random_weight(rng, (1, 3, 3, 4), 3)
    content = models.conv_model((1, 6, 6, 4), weight, (3, 3, 1), depth_multiplier=1, compute="int8")
    x = rng.normal(size=(1, 6, 6, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(content, x), run(content, x, compute="f32"))


def test_unknown_compute(rng, capfd):
    layer, weight = Layer((3, 64), (50, 64)), models.random_weight(rng, (50, 64), 0)
    x = np.zeros(layer.x_shape, np.float32)
    with pytest.raises(ValueError, match=r"compute \(auto, f32, int8\).*Received: compute=int4"):
        run(layer.model(weight, None), x, compute="int4")
    with pytest.raises((RuntimeError, ValueError)) as error:
        run(layer.model(weight, None, compute="int4"), x)
    assert "option compute must be one of auto, f32, int8. Received: compute=int4." in str(error.value) + capfd.readouterr().err
