"""From tensors to packed weights and back: error bounds, value kinds, tiles, every rule of FORMAT.md 5."""

import dataclasses
import struct

import numpy as np
import pytest

from tests.golden_errors.sealing import sealed
from tflite_smart.converter import buckets, channel_codes, compress
from tflite_smart.converter.channel_codes import Bias, ScaleCodes
from tflite_smart.converter.compress import TensorSettings, compress_tensor, expand_blob
from tflite_smart.converter.errors import PackedWeightError, UnpackableWeightError
from tflite_smart.converter.format import HEADER_BYTES, PackedWeight, Quantized, from_matrix, to_matrix

SEED = 4


def weights(*shape):
    rng = np.random.default_rng(SEED)
    return rng.laplace(0, 0.05, shape).astype(np.float32)


@pytest.mark.parametrize(("shape", "axis"), [((5, 3, 3, 7), 0), ((1, 3, 3, 40), 3), ((70, 33), 0), ((33, 70), 1), ((4, 6, 5), 1), ((1,), 0), ((97, 1), 0)])
def test_matrix_order(shape, axis):
    values = np.arange(np.prod(shape)).reshape(shape)
    matrix = to_matrix(values, axis)
    inner = int(np.prod(shape[axis + 1 :]))
    n, k = np.indices(matrix.shape)
    assert np.array_equal(matrix, (k // inner) * len(matrix) * inner + n * inner + k % inner), "FORMAT.md 3, element order"
    assert np.array_equal(from_matrix(matrix, shape, axis), values)


@pytest.mark.parametrize("kind", ["uniform", "midrise"])
@pytest.mark.parametrize("error", [0.01, 0.1, 0.4])
def test_no_weight_is_clipped(kind, error):
    values = weights(40, 3, 3, 20)
    values[3] = 0
    values[5] *= 100
    values[7, 0, 0, 0] = 50 * np.abs(values[7]).max()  # an outlier widens its own channel only, and is not clipped
    compressed = compress_tensor(values, 0, TensorSettings(buckets=kind, relative_error=error, taps=None))
    expanded = expand_blob(compressed.blob, values.shape, 0)
    scales = PackedWeight.from_bytes(compressed.blob).scales
    bound = scales[:, None] * (1 + 1e-5)  # two float32 roundings of numbers up to 128 steps; the trellis takes the second nearest where the nearest lies outside
    assert np.all(np.abs(to_matrix(values - expanded, 0)) <= bound + 1e-30)
    assert compressed.max_error == pytest.approx(np.abs(values - expanded).max(), rel=1e-5)
    measured = np.sqrt(np.square(values - expanded).sum() / np.square(values).sum())
    assert compressed.relative_error == pytest.approx(measured, rel=1e-4)
    assert np.all(expanded[3] == 0) or kind == "midrise"
    assert not expanded[3].any(), "a channel of zeros has scale 0"


@pytest.mark.parametrize(
    ("scales", "exponent", "coding", "codes"),
    [
        ([1.0, 0.0, 1.9375, 0.5], 126, 0x46, [17, 0, 32, 1]),  # FORMAT.md 3: four bits of mantissa, codes of six
        ([1.0, 2.0, 1.5, 4.0], 127, 0x13, [1, 3, 2, 5]),
        ([2.0**-15, 2.0**15], 112, 0x05, [1, 31]),
        ([3.0], 128, 0x12, [2]),
        ([2.0**-126, 1.0], 1, 0x07, [1, 127]),
        ([2.0**-126, 2.0**-126 * 1.5], 1, 0x12, [1, 2]),
        ([1.0, 1.0 + 2.0**-7], 127, 0x72, [1, 2]),
        ([1.0, 1.0 + 2.0**-8], 0, 0, None),  # an eighth bit of mantissa
        ([1.0, 1.5 * 2.0**127], 0, 0, None),  # too far apart: nine bits
        ([2.0**-126, 2.0**127], 0, 0, None),  # an infinity among 256 codes
        ([2.0**127, 1.5 * 2.0**127, 2.0**126], 0, 0, None),  # three bits could stand for an infinity
        ([-1.0, 1.0], 0, 0, None),
        ([1e-40, 1e-39], 0, 0, None),
        ([0.0, 0.0], 0, 0, None),
    ],
)
def test_scales_in_few_bits_are_exact(scales, exponent, coding, codes):
    scales = np.array(scales, np.float32)
    found = ScaleCodes.of(scales)
    assert (found is None) == (codes is None) and (codes is None or (found.exponent, found.bits | found.mantissa_bits << 4, found.codes.tolist()) == (exponent, coding, codes))
    ids = np.arange(2 * len(scales)).reshape(len(scales), 2).astype(np.int8)
    blob = compress.pack(Quantized(ids, "uniform", scales), 1).to_bytes()
    assert (blob[11], blob[27]) == (exponent, coding) and np.array_equal(PackedWeight.from_bytes(blob).scales, scales)


@pytest.mark.parametrize("bits", [1, 3, 7, 8, 13, 16])
@pytest.mark.parametrize("count", [1, 5, 32, 33])
def test_codes_lie_bit_behind_bit(bits, count):
    codes = np.random.default_rng(SEED).integers(0, 1 << bits, count)
    data = channel_codes.pack_bits(codes, bits)
    assert int.from_bytes(data, "little") == sum(int(code) << bits * number for number, code in enumerate(codes)) and len(data) == -(-bits * count // 8)
    np.testing.assert_array_equal(channel_codes.unpack_bits(data, bits, count), codes)


def test_biases_are_the_nearest_multiples_of_the_step():
    values = np.random.default_rng(SEED).normal(0, 2, 50).astype(np.float32)
    for step in (3.0, 0.3, 1e-3):
        bias = Bias.nearest(values, step)
        assert step / (1 + 2**-7) <= bias.step <= step and np.all(np.abs(bias.values() - values) <= bias.step / 2 * (1 + 1e-6))
        assert -(1 << bias.bits - 1) <= bias.codes.min() and bias.codes.max() < 1 << bias.bits - 1 and np.abs(bias.codes).max() >= 1 << bias.bits - 2
        again = Bias.from_bytes(bias.to_bytes(), bias.bits, 50)
        assert again.step == bias.step and np.array_equal(again.codes, bias.codes)
        packed = dataclasses.replace(compress.pack(Quantized(np.ones((50, 2), np.int8), "uniform", np.ones(50, np.float32)), 1), bias=bias)
        assert np.array_equal(PackedWeight.from_bytes(packed.to_bytes()).bias.values(), bias.values())
    for impossible in (1e-5, 0.0):
        assert Bias.nearest(values, impossible) is None, "more than 16 bits"
    for odd in (np.nan, np.inf, -np.inf):
        assert Bias.nearest(np.append(values, np.float32(odd)), 0.1) is None
    assert Bias.nearest(values * np.float32(1e-39), 1e-40) is None, "steps are normal numbers"
    assert Bias.nearest(np.float32([0.2, -0.2]), 1.0).codes.tolist() == [0, 0]


def test_steps_have_few_bits_and_clip_nothing():
    steps = np.geomspace(1e-3, 1e3, 1000).astype(np.float32)
    for elements, bits in ((9, 0), (32, 1), (128, 2), (576, 3), (4608, 4)):
        coarse = buckets.coarse(steps, elements)
        assert np.all(np.abs(coarse / steps - 1) <= 2.0 ** -(bits + 1) + 1e-6) and np.abs(coarse / steps - 1).max() > 0.9 * 2.0 ** -(bits + 2)
        assert np.array_equal(np.frexp(coarse)[0] * 2 ** (bits + 1) % 1, np.zeros(1000))
    at_least = buckets.coarse(steps, 9, steps)
    assert np.all(at_least >= steps) and np.all(at_least <= steps * (1 + 1 / 16 + 1e-6)), "rounding all up by one bit of mantissa would double the noise"
    compressed = compress_tensor(weights(40, 500), 0, TensorSettings(buckets="dependent", relative_error=0.1))
    assert compressed.blob[11] > 0 and compressed.value_kind == "dependent"


def test_relative_error_is_what_was_asked_for():
    """Uniform rounding with step d has the mean square d * d / 12; coarse steps on a peaked distribution lie a little below, and 8-bit ids set a floor near 0.02."""
    for error in (0.04, 0.1, 0.2):
        compressed = compress_tensor(weights(64, 500), 0, TensorSettings(relative_error=error))
        assert 0.9 * error < compressed.relative_error < 1.05 * error


def test_integers_survive_exactly():
    rng = np.random.default_rng(SEED)
    values = np.clip(rng.normal(0, 30, (7, 3, 3, 50)), -128, 127).astype(np.int8)
    for axis in (0, 3):
        compressed = compress_tensor(values, axis, TensorSettings())
        assert compressed.value_kind == "integer" and compressed.max_error == 0
        assert np.array_equal(expand_blob(compressed.blob, values.shape, axis), values)


def test_binary_is_one_bit():
    values = weights(64, 1024)
    compressed = compress_tensor(values, 0, TensorSettings(buckets="binary", objective="latency"))
    expanded = expand_blob(compressed.blob, values.shape, 0)
    assert np.array_equal(expanded >= 0, values >= 0)
    assert np.allclose(np.abs(expanded), np.abs(values).mean(axis=1, keepdims=True), rtol=1e-5)
    assert compressed.bits_per_weight < 1.1


@pytest.mark.parametrize("name", ["ternary", "constant", "int4 grid", "no weight of one step"])
def test_weights_on_a_grid_stay_exact(name):
    """Where exact costs no more bits than rounding does, nothing is rounded."""
    rng = np.random.default_rng(SEED)
    ids = {"ternary": rng.integers(-1, 2, (40, 300)), "constant": np.ones((40, 300), int), "int4 grid": np.clip(np.rint(rng.normal(0, 2, (40, 300))), -7, 7),
           "no weight of one step": rng.choice([-5, -3, -2, 0, 2, 3], (40, 300))}[name]  # fmt: skip
    values = (rng.uniform(0.01, 0.1, (40, 1)).astype(np.float32) * ids.astype(np.float32)).astype(np.float32)
    compressed = compress_tensor(values, 0, TensorSettings(relative_error=0.05))
    assert compressed.relative_error < 1e-6
    assert compressed.bits_per_weight < {"ternary": 1.85, "constant": 0.2, "int4 grid": 3.3, "no weight of one step": 2.9}[name]


def test_compressing_twice_gives_the_same_bytes():
    assert compress_tensor(weights(50, 77), 0, TensorSettings()).blob == compress_tensor(weights(50, 77), 0, TensorSettings()).blob


@pytest.mark.parametrize("channels", [1, 2, 31, 32, 33, 64, 70, 97, 130])
@pytest.mark.parametrize("codec", ["raw", "bitpack", "rans", "sparse"])
def test_any_tile_decodes_alone(channels, codec):
    values = weights(channels, 60)
    compressed = compress_tensor(values, 0, TensorSettings(codecs=(codec,), relative_error=0.05))
    packed = PackedWeight.from_bytes(compressed.blob)
    first = 0
    for tile in reversed(range(packed.num_tiles)):
        ids = packed.decode_tile(tile)
        first = tile * packed.panels_per_tile * 32
        width = min(32, channels - first)
        assert np.array_equal(ids[: width * 60].reshape(60, width).T, compressed.quantized.ids[first : first + width])
    assert first == 0 and np.array_equal(packed.ids(), compressed.quantized.ids)


def test_weights_that_float32_steps_cannot_hold_are_refused():
    for values in (np.random.default_rng(SEED).uniform(-3.4e38, 3.4e38, (8, 100)), np.random.default_rng(SEED).normal(0, 1e-38, (8, 100))):
        with pytest.raises(UnpackableWeightError, match="keep their size"), np.errstate(over="ignore", invalid="ignore"):
            compress_tensor(values.astype(np.float32), 0, TensorSettings(relative_error=0.1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_must_be_finite(value):
    values = weights(4, 4)
    values[1, 2] = value
    with pytest.raises(ValueError, match="finite"):
        compress_tensor(values, 0, TensorSettings())


def test_huge_and_denormal_weights():
    values = np.array([[3e38, -3e38, 1e38], [1e-45, -1e-44, 0], [1e-30, 2e-30, -1e-30]], np.float32)
    expanded = expand_blob(compress_tensor(values, 0, TensorSettings(relative_error=0.01)).blob, values.shape, 0)
    assert np.isfinite(expanded).all()
    assert np.allclose(expanded[0], values[0], rtol=0.1)
    assert np.abs(expanded[1]).max() <= 1e-37, "denormal channels may vanish, not explode"


QUANTIZED = compress_tensor(weights(70, 90), 0, TensorSettings(relative_error=0.1)).quantized
BLOB = compress.pack(dataclasses.replace(QUANTIZED, scales=np.pi * QUANTIZED.scales), 1, TensorSettings(codecs=("rans",))).to_bytes()  # scales in float32


@pytest.mark.parametrize("offset", range(HEADER_BYTES))
def test_every_header_byte_is_protected(offset):
    damaged = bytearray(BLOB)
    damaged[offset] ^= 0x55
    with pytest.raises(PackedWeightError):
        PackedWeight.from_bytes(bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, 76, len(BLOB) // 2, len(BLOB) - 1])
def test_truncation_is_an_error(length):
    with pytest.raises(PackedWeightError, match="size"):
        PackedWeight.from_bytes(BLOB[:length])


RULES = [
    ("magic", 0, b"XFSW"), ("version", 4, b"\1"), ("codec", 5, b"\7"), ("value_kind", 6, b"\6"), ("raw_bits", 7, b"\5"), ("num_symbols", 9, b"\1"),
    ("num_symbols", 9, b"\x11"), ("has_escape", 10, b"\2"), ("scale_coding", 11, b"\xf0"), ("num_channels", 12, bytes(4)), ("channel_elements", 16, bytes(4)),
    ("inner_elements", 20, struct.pack("<I", 7)), ("panels_per_tile", 24, bytes(4)), ("panels_per_tile", 24, struct.pack("<I", 4)),
    ("frequencies", -4 * 70 - 16, b"\0"), ("scales", -4 * 70, struct.pack("<f", float("nan"))),
]  # fmt: skip


@pytest.mark.parametrize(("field", "offset", "value"), RULES, ids=[f"{field}@{offset}" for field, offset, _ in RULES])
def test_each_rule_names_its_field(field, offset, value):
    damaged, offset = bytearray(BLOB), offset % len(BLOB)  # from the end if it is negative: one tile, so scales are the last
    damaged[offset : offset + len(value)] = value
    with pytest.raises(PackedWeightError, match=field):
        PackedWeight.from_bytes(sealed(bytes(damaged)))


@pytest.mark.parametrize("channels", [1, 8, 40])
def test_forty_bytes_follow_the_payload_and_no_more_than_it_takes(channels):
    """Scales and frequencies count; what they lack are zeros."""
    packed = compress.pack(Quantized(np.arange(3 * channels, dtype=np.int8).reshape(channels, 3), "integer"), 1, TensorSettings(codecs=("raw",)))
    assert len(packed.to_bytes()) == HEADER_BYTES + 3 * channels + 40
    scaled = dataclasses.replace(packed, value_kind="uniform", scales=np.full(channels, np.pi, np.float32)).to_bytes()
    assert len(scaled) == HEADER_BYTES + max(3 * channels + 40, -(-3 * channels // 4) * 4 + 4 * channels)
    for blob in (packed.to_bytes(), scaled if channels < 40 else packed.to_bytes()):
        with pytest.raises(PackedWeightError, match="padding"):
            PackedWeight.from_bytes(sealed(blob[:-1] + b"\1"))


def test_payload_damage_is_seen():
    damaged = bytearray(BLOB)
    damaged[HEADER_BYTES + 100] ^= 1
    with pytest.raises(PackedWeightError, match="crc"):
        PackedWeight.from_bytes(bytes(damaged))


def test_the_smallest_codec_wins():
    rng = np.random.default_rng(SEED)
    ids = np.where(rng.random((128, 512)) < 0.5, 0, rng.integers(-3, 4, (128, 512))).astype(np.int8)
    size = {name: len(compress.pack(Quantized(ids, "integer"), 512, TensorSettings(codecs=(name,))).to_bytes()) for name in ("raw", "bitpack", "rans", "sparse")}
    assert compress.pack(Quantized(ids, "integer"), 512).codec == min(size, key=size.get) == "rans"
    assert compress.pack(Quantized(ids, "integer"), 512, TensorSettings(objective="latency")).codec == "bitpack"
