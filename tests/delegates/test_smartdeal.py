"""Value kind smartdeal in C++: equal to the numpy reference bit for bit on every instruction set, in every kernel, and safe on any bytes."""

import struct

import numpy as np
import pytest

from tests.delegates import models
from tests.delegates.running import run
from tests.delegates.test_codecs import CORRUPT, HEADER, decode_anyway, refusal
from tests.delegates.test_kernels import check_conv, check_depthwise
from tests.golden_errors.sealing import sealed
from tflite_smart.converter.format import PackedWeight, Quantized, from_matrix
from tflite_smart.delegates import native

GROUPING = HEADER  # right behind it


def weight(rng, shape, grouping, *, codec="rans", panels_per_tile=1, axis=0):
    return models.random_weight(rng, shape, axis, value_kind="smartdeal", codec=codec, panels_per_tile=panels_per_tile, grouping=grouping)


@pytest.mark.parametrize("group_size", range(1, 9))
def test_every_short_length(rng, isa, group_size):
    """1 k to 3 rows and one more, so that the last group is cut short in every way; slices that end inside and with the channel."""
    for elements in [*range(1, 36), 63, 64, 65, 95, 96, 97]:
        groups = -(-elements // group_size)
        packed = weight(rng, (35, elements), (group_size, 1, 1 + elements % groups), codec="raw")
        np.testing.assert_array_equal(native.expand(packed.to_bytes(), (35, elements)), packed.expand(), strict=True)


# k taken at once: 288, 288 (three tiles in step), a multiple of 480 that is none of 288, 1536 of 4608, all 1800 of an odd number of channels
@pytest.mark.parametrize("shape, grouping", [((70, 3, 3, 32), (3, 32, 96)), ((70, 3, 3, 64), (3, 64, 100)), ((40, 3, 3, 20), (3, 20, 60)),
                                             ((66, 3, 3, 512), (3, 512, 96)), ((33, 5, 5, 6), (5, 6, 7)), ((33, 1, 8, 9), (8, 9, 1)), ((34, 3, 3, 200), (3, 200, 600))])  # fmt: skip
@pytest.mark.parametrize("axis", [0, 3])
def test_lines_of_filters(rng, isa, shape, grouping, axis):
    shape = shape if axis == 0 else (*shape[1:], shape[0])
    packed = weight(rng, shape, grouping, axis=axis, panels_per_tile=min(2, -(-shape[axis] // 32)))
    np.testing.assert_array_equal(native.expand(packed.to_bytes(), shape), from_matrix(packed.expand(), shape, axis))


def test_every_id_has_a_coefficient(rng, isa):
    """What no encoder writes is still one power of two everywhere: at most 2^14, so that sums stay whole."""
    ids = np.arange(-128, 128).astype(np.int8).reshape(1, 256)
    packed = models.pack(Quantized(ids, "smartdeal", np.ones(1, np.float32), basis=models.random_basis(rng, (1, 256), 8)), 256)
    np.testing.assert_array_equal(native.expand(packed.to_bytes(), (1, 256)), packed.expand())


@pytest.mark.parametrize("filter_size, grouping", [((1, 1), (3, 1, 5)), ((3, 3), (3, 24)), ((3, 3), (3, 24, 10)), ((5, 5), (5, 24, 100)), ((7, 7), (7, 24, 96)), ((3, 1), (3,))])
@pytest.mark.parametrize("codec", ["rans", "bitpack"])
def test_conv2d(rng, isa, filter_size, grouping, codec):
    check_conv(rng, (1, 8, 9, 24), (41, *filter_size, 24), weight=weight(rng, (41, *filter_size, 24), grouping, codec=codec))


@pytest.mark.parametrize("channels, panels_per_tile", [(64, 1), (64, 3), (256, 1), (300, 2), (512, 1)])
def test_conv2d_in_pieces(rng, isa, channels, panels_per_tile):
    """Batches of tiles, panels in step, and one panel at a time where a piece of whole groups fills the scratch."""
    shape = (100, 3, 3, channels)
    grouping = (3, channels, 192) if channels != 300 else (3, 1, 192)
    check_conv(rng, (1, 4, 5, channels), shape, weight=weight(rng, shape, grouping, panels_per_tile=panels_per_tile), num_threads=2)


@pytest.mark.parametrize("groups, group_in, group_out", [(2, 5, 40), (20, 3, 1)])
def test_grouped_conv2d(rng, isa, groups, group_in, group_out):
    shape = (groups * group_out, 3, 3, group_in)
    check_conv(rng, (1, 5, 6, groups * group_in), shape, weight=weight(rng, shape, (3, group_in, 4)))


def test_depthwise_and_one_position(rng, isa):
    check_depthwise(rng, (1, 6, 7, 40), (3, 3), 1, weight=weight(rng, (1, 3, 3, 40), (3,), axis=3))
    check_conv(rng, (1, 1, 1, 131), (45, 1, 1, 131), weight=weight(rng, (45, 1, 1, 131), (3, 1, 20)))


def test_gather(rng, isa):
    packed = weight(rng, (200, 301), (3, 1, 50), panels_per_tile=3)
    indices = np.array([[0, 199, 31, 32, 5, 5]], np.int32)
    got = run(models.gather_model(packed, (301,), (1, 4)), indices, num_threads=2)
    np.testing.assert_array_equal(got, packed.expand()[indices])


# --- bad bytes


def test_cut_and_flipped_bytes():
    blob = weight(np.random.default_rng(1), (33, 12), (3, 2, 1)).to_bytes()
    for size in range(len(blob)):
        assert refusal(native.open_packed, blob[:size]).code == CORRUPT
        with pytest.raises(ValueError, match="must"):
            PackedWeight.from_bytes(blob[:size])
    for position in range(len(blob)):
        broken = bytearray(blob)
        broken[position] ^= 0x41
        assert refusal(native.open_packed, bytes(broken))


@pytest.mark.parametrize(
    "offset, value, name",
    [(0, 0, "group_size"), (0, 9, "group_size"), (0, 1 << 31, "group_size"), (4, 0, "group_stride"), (4, 3, "group_stride"), (4, 0xFFFFFFFF, "group_stride"),
     (8, 0, "slice_groups"), (8, 5, "slice_groups"), (8, 2, "size"), (0, 2, "size")],
)  # fmt: skip
def test_rules_of_the_grouping(offset, value, name):
    blob = bytearray(weight(np.random.default_rng(1), (33, 12), (3, 2, 1)).to_bytes())
    struct.pack_into("<I", blob, GROUPING + offset, value)
    blob = sealed(blob)
    assert name in str(refusal(native.open_packed, blob))
    with pytest.raises(ValueError, match=name):
        PackedWeight.from_bytes(blob)


def test_groups_that_no_scratch_holds_are_refused():
    """9 lines of 3 taps over 683 channels: no 2048 k hold whole ones."""
    blob = weight(np.random.default_rng(1), (1, 3, 3, 683), (3, 683, 192)).to_bytes()
    assert "2048" in str(refusal(native.open_packed, blob))
    with pytest.raises(ValueError, match="2048"):
        PackedWeight.from_bytes(blob)


def test_an_astronomic_basis_is_refused_by_its_size():
    """2^28 slices of 64 bytes: more than any integer of 32 bits counts."""
    blob = bytearray(weight(np.random.default_rng(1), (1, 8), (8,)).to_bytes())
    struct.pack_into("<I", blob, 16, 0x7FFFFFF8)
    assert "size must be" in str(refusal(native.open_packed, sealed(blob)))


def test_any_grouping_byte_with_right_checksums(isa):
    """Refused with a message, or decoded without a crash."""
    blob = weight(np.random.default_rng(1), (33, 12), (3, 2, 1)).to_bytes()
    accepted = 0
    for position in [*range(HEADER), *range(GROUPING, GROUPING + 12)]:
        for value in (0, 1, 2, 4, 5, 6, 128, 255):
            broken = bytearray(blob)
            broken[position] = value
            broken = sealed(broken)
            try:
                info = native.open_packed(broken)
                native.expand(broken, (33, 12))
            except native.NativeError:
                continue
            accepted += 1
            decode_anyway(broken, 0, info.tile_ids(0))
    assert accepted > 0
