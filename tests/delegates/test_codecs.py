"""The C++ codecs through the C API: equal to the numpy reference byte for byte, on every instruction set, and safe on any bytes."""

import ctypes
import dataclasses

import numpy as np
import pytest

from tests.golden_errors.sealing import sealed
from tflite_smart.converter import buckets
from tflite_smart.converter import format as packed_format
from tflite_smart.converter.channel_codes import Bias
from tflite_smart.converter.codecs import CODECS, CodecParameters
from tflite_smart.converter.format import PackedWeight, from_matrix, tile_count, tile_order
from tflite_smart.delegates import native
from tests.delegates.models import random_basis

HEADER = packed_format.HEADER_BYTES
OK, INVALID_ARGUMENT, CORRUPT, UNSUPPORTED = 0, 1, 2, 3


def draw(kind: str, shape: tuple[int, int], seed: int = 7) -> np.ndarray:
    """Ids of one of the distributions that codecs find easy or hard."""
    rng = np.random.default_rng(seed)
    ids = {
        "constant": lambda: np.full(shape, -3),
        "binary": lambda: rng.integers(-1, 1, shape),
        "pruned": lambda: np.where(rng.random(shape) < 0.9, 0, rng.integers(-128, 128, shape)),
        "gaussian": lambda: np.round(rng.normal(0, 6, shape)),
        "heavy_tail": lambda: np.round(rng.standard_t(1.3, shape) * 2),
        "max_entropy": lambda: rng.integers(-128, 128, shape),
    }[kind]()
    return np.clip(ids, -128, 127).astype(np.int8)


KINDS = ["constant", "binary", "pruned", "gaussian", "heavy_tail", "max_entropy"]
# rans needs two symbols; everything else stores everything.
CODECS_AND_KINDS = [(codec, kind) for codec in CODECS for kind in KINDS if (codec, kind) != ("rans", "constant")]
# codec, raw bits, escape: every coding that the format allows
CODINGS = [("rans", bits, escape) for bits in range(5) for escape in (False, True)]
CODINGS += [("bitpack", bits, escape) for bits in range(8) for escape in (False, True) if bits or not escape]


def plan(codec: str, ids: np.ndarray) -> CodecParameters:
    return CODECS[codec].plan(np.bincount(ids.reshape(-1).astype(np.int64) + 128, minlength=256))[0]


def pack(ids: np.ndarray, codec: str, panels_per_tile: int = 1, inner: int = 1, value_kind: str = "uniform",
         parameters: CodecParameters | None = None) -> PackedWeight:
    """A packed weight made by the numpy encoder."""
    parameters = parameters or plan(codec, ids)
    rng = np.random.default_rng(1)
    scales = None if value_kind == "integer" else rng.normal(size=len(ids)).astype(np.float32)
    codebook = rng.normal(size=256).astype(np.float32) if value_kind == "codebook" else None
    basis = random_basis(rng, ids.shape, 3, ids.shape[1] // 6 or 1, 7) if value_kind == "smartdeal" else None
    tiles = [CODECS[codec].encode_tile(tile_order(ids, t, panels_per_tile), parameters) for t in range(tile_count(len(ids), panels_per_tile))]
    return PackedWeight(codec, value_kind, parameters, *ids.shape, inner, panels_per_tile, scales, codebook, tiles, basis)


def decode_anyway(blob: bytes, tile: int, count: int, piece_rows: int = 0) -> tuple[int, np.ndarray]:
    """Code and ids of tfs_decode_tile, the ids of damaged tiles too."""
    data, ids = np.frombuffer(blob, np.uint8).copy(), np.zeros(count, np.int8)
    code = native.library().tfs_decode_tile(data.ctypes.data, data.size, tile, piece_rows, ids.ctypes.data, count, None)
    return code, ids


def refusal(function, *arguments) -> native.NativeError:
    with pytest.raises(native.NativeError) as caught:
        function(*arguments)
    assert "must" in str(caught.value) and "Received" in str(caught.value)
    return caught.value


# --- the same bytes, the same ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec, kind", CODECS_AND_KINDS)
def test_every_short_length(codec, kind, isa):
    """1 id to 3 rows and one more: encoded as numpy does, decoded whole and row by row."""
    all_ids = draw(kind, (1, 97))
    parameters = plan(codec, all_ids)
    for count in range(1, 98):
        ids = all_ids[:, :count]
        packed = pack(ids, codec, parameters=parameters)
        assert native.encode_tile(ids.reshape(-1), codec, parameters) == packed.tiles[0]
        blob = packed.to_bytes()
        for piece_rows in (0, 1):
            np.testing.assert_array_equal(native.decode_tile(blob, 0, piece_rows), ids.reshape(-1))


@pytest.mark.parametrize("codec, kind", CODECS_AND_KINDS)
def test_large_tiles_and_narrow_last_panel(codec, kind, isa):
    ids = draw(kind, (133, 611))
    for panels_per_tile in (1, 2, 5):
        packed = pack(ids, codec, panels_per_tile)
        blob = packed.to_bytes()
        for tile in range(packed.num_tiles):
            wanted = tile_order(ids, tile, panels_per_tile)
            assert native.encode_tile(wanted, codec, packed.parameters) == packed.tiles[tile]
            for piece_rows in (0, 1, 7):
                np.testing.assert_array_equal(native.decode_tile(blob, tile, piece_rows), wanted)


@pytest.mark.parametrize("codec, raw_bits, has_escape", CODINGS)
def test_every_loop_of_a_decoder(codec, raw_bits, has_escape, isa):
    """Decoders are compiled once for each number of raw bits, with and without escape: the planner alone would not reach them all."""
    num_symbols = 6 if codec == "rans" else 0
    frequencies = (90, 1, 80, 40, 15, 30) + (0,) * 10 if codec == "rans" else ()
    window = (num_symbols or 1) << raw_bits
    base = -window // 2
    parameters = CodecParameters(raw_bits, base, num_symbols, has_escape, frequencies)
    ids = np.random.default_rng(raw_bits).integers(base, base + window, 5000).astype(np.int8)
    if has_escape:
        ids[::7] = 127
    assert native.encode_tile(ids, codec, parameters) == CODECS[codec].encode_tile(ids, parameters)
    blob = pack(ids.reshape(1, -1), codec, parameters=parameters).to_bytes()
    np.testing.assert_array_equal(native.decode_tile(blob, 0, 5), ids)


@pytest.mark.parametrize("codec", CODECS)
def test_a_tile_decodes_alone(codec, isa):
    """The other tiles hold random bytes: they are neither read nor needed."""
    ids = draw("gaussian", (96, 40))
    packed = pack(ids, codec)
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, len(tile), dtype=np.uint8).tobytes() for tile in packed.tiles]
    alone = PackedWeight(**{**packed.__dict__, "tiles": [noise[0], packed.tiles[1], noise[2]]})
    np.testing.assert_array_equal(native.decode_tile(alone.to_bytes(), 1), tile_order(ids, 1, 1))


@pytest.mark.parametrize("value_kind", native.VALUE_KINDS)
@pytest.mark.parametrize("inner", [1, 6, 90])
def test_expand_equals_the_reference(value_kind, inner, isa):
    ids = draw("heavy_tail", (70, 90))
    packed = pack(ids, "rans", 2, inner, value_kind)
    shape = (90 // inner, 70, inner)
    np.testing.assert_array_equal(native.expand(packed.to_bytes(), shape), from_matrix(packed.expand(), shape, 1), strict=True)


@pytest.mark.parametrize("channels", [1, 4, 70])
@pytest.mark.parametrize("bias_bits", [0, 1, 9, 16])
def test_expand_with_scales_in_few_bits(channels, bias_bits):
    """The bias between them and the other sections is the operator's."""
    scales = buckets.coarse(np.geomspace(1e-3, 10, channels), 80) * (np.arange(channels) != 2)
    bias = Bias(np.arange(channels) % 2 - 1, bias_bits, 0.5) if bias_bits else None
    packed = dataclasses.replace(pack(draw("gaussian", (channels, 30)), "rans"), scales=scales.astype(np.float32), bias=bias)
    blob = packed.to_bytes()
    payload = int.from_bytes(blob[28:32], "little")
    codes = -(-channels * (blob[27] & 15) // 8) + (2 + -(-channels * bias_bits // 8) if bias_bits else 0)
    assert blob[11] > 0 and len(blob) == 36 + max(payload + 40, -(-(payload + codes) // 4) * 4 + 16 + 4 * (packed.num_tiles - 1))
    np.testing.assert_array_equal(native.expand(blob, (30, channels)), packed.expand().T, strict=True)


def test_header_reaches_python():
    info = native.open_packed(pack(draw("gaussian", (70, 90)), "rans", 2, 6).to_bytes())
    assert (info.num_channels, info.channel_elements, info.inner_elements, info.panels_per_tile) == (70, 90, 6, 2)
    assert (info.num_panels, info.num_tiles, info.codec) == (3, 2, native.CODECS["rans"])
    assert [info.tile_ids(0), info.tile_ids(1)] == [64 * 90, 6 * 90]


def test_constants_are_the_reference_ones():
    assert native.CODECS == {name: codec.number for name, codec in CODECS.items()}
    assert native.VALUE_KINDS == packed_format.VALUE_KINDS
    assert native.library().tfs_format_version() == packed_format.VERSION


# --- bad bytes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_cut_at_every_length(codec):
    blob = pack(draw("gaussian", (33, 5)), codec).to_bytes()
    for size in range(len(blob)):
        assert refusal(native.open_packed, blob[:size]).code == CORRUPT
    assert refusal(native.open_packed, blob + b"\0").code == CORRUPT


@pytest.mark.parametrize("codec", CODECS)
def test_every_flipped_byte_is_found(codec):
    """A CRC or a rule covers every byte, padding included."""
    blob = pack(draw("gaussian", (33, 5)), codec, value_kind="codebook").to_bytes()
    for position in range(len(blob)):
        broken = bytearray(blob)
        broken[position] ^= 0x41
        assert refusal(native.open_packed, bytes(broken)).code in (CORRUPT, UNSUPPORTED)


@pytest.mark.parametrize(
    "position, value, name",
    [(0, ord("X"), "magic"), (4, 1, "version"), (5, 4, "codec"), (6, 6, "value_kind"), (7, 5, "raw_bits"), (9, 17, "num_symbols"),
     (9, 1, "num_symbols"), (10, 2, "has_escape"), (11, 240, "scale_coding"), (26, 17, "bias_bits"), (27, 1, "scale_coding"), (12, 0, "num_channels"), (16, 0, "channel_elements"),
     (20, 3, "inner_elements"), (20, 0, "inner_elements"), (24, 0, "panels_per_tile"), (24, 4, "panels_per_tile"), (28, 1, "size")],
)  # fmt: skip
def test_rules_behind_the_checksums(position, value, name):
    blob = bytearray(pack(draw("gaussian", (70, 5)), "rans").to_bytes())
    blob[position] = value
    assert name in str(refusal(native.open_packed, sealed(blob)))


@pytest.mark.parametrize(
    "offset, patch, name",
    [(0, b"\xff", "frequencies"), (15, b"\x01", "frequencies"), (16, b"\0\0\x80\x7f", "scales"), (16 + 4 * 69, b"\0\0\xc0\xff", "scales"),
     (16 + 4 * 70, b"\xff\xff\0\0", "tile_ends"), (16 + 4 * 71, b"\xff\xff\0\0", "tile_ends"), (16 + 4 * 70, b"\x01\0\0\0", "tile_bytes")],
)  # fmt: skip
def test_rules_of_the_sections(offset, patch, name):
    ids = draw("binary", (70, 5))
    blob = bytearray(pack(ids, "rans").to_bytes())
    offset += len(blob) - (16 + 4 * 70 + 4 * 2)  # frequencies, scales and the ends of two of three tiles are the last bytes
    blob[offset : offset + len(patch)] = patch
    assert name in str(refusal(native.open_packed, sealed(blob)))


@pytest.mark.parametrize("codec", CODECS)
def test_any_header_byte_with_right_checksums(codec, isa):
    """Each byte set to many values: refused with a message, or decoded without a crash. Shapes stay small enough to allocate."""
    blob = pack(draw("gaussian", (33, 5)), codec).to_bytes()
    accepted = 0
    for position in range(HEADER):
        for value in (0, 1, 2, 3, 4, 5, 7, 16, 127, 128, 255):
            broken = bytearray(blob)
            broken[position] = value
            broken = sealed(broken)
            try:
                info = native.open_packed(broken)
            except native.NativeError:
                continue
            accepted += 1
            for tile in range(info.num_tiles):
                if info.tile_ids(tile) < 1 << 20:
                    decode_anyway(broken, tile, info.tile_ids(tile))
    assert accepted > 0


@pytest.mark.parametrize("kind", ["gaussian", "heavy_tail", "max_entropy"])
@pytest.mark.parametrize("codec", ["bitpack", "rans", "sparse"])
def test_damaged_tiles_are_found_and_equal_on_every_isa(codec, kind):
    """Random payloads behind right checksums: all instruction sets write the same ids and come to the same verdict."""
    packed = pack(draw(kind, (32, 31)), codec)
    rng = np.random.default_rng(11)
    refused = 0
    for _ in range(60):
        tile = np.frombuffer(packed.tiles[0], np.uint8).copy()
        hits = rng.integers(0, len(tile), rng.integers(1, 9))
        tile[hits] = rng.integers(0, 256, len(hits))
        cut = rng.integers(0, 2) * rng.integers(0, 40)  # shorter or longer by some bytes: streams and escape lists overrun
        body = tile.tobytes()[: len(tile) - cut] if rng.integers(0, 2) else tile.tobytes() + bytes(cut)
        blob = PackedWeight(**{**packed.__dict__, "tiles": [body]}).to_bytes()
        results = []
        for name in native.isa_names():
            native.force_isa(name)
            results.append(decode_anyway(blob, 0, 32 * 31, int(rng.integers(0, 3))))
        native.force_isa(None)
        for code, ids in results[1:]:
            assert code == results[0][0]
            np.testing.assert_array_equal(ids, results[0][1])
        refused += results[0][0] == CORRUPT
    # Changed raw bits or escapes only change ids (the CRC is there for that); the fewest of these 60 hits are of that kind alone.
    assert refused > 10


def test_a_wrong_final_state_is_an_error(isa):
    packed = pack(draw("gaussian", (32, 31)), "rans")
    tile = bytearray(packed.tiles[0])
    tile[-1 if not packed.parameters.has_escape else 4 * 31 * packed.parameters.raw_bits] ^= 1
    broken = PackedWeight(**{**packed.__dict__, "tiles": [bytes(tile)]}).to_bytes()
    assert "tile_end must" in str(refusal(native.decode_tile, broken, 0))


# --- the caller's mistakes ------------------------------------------------------------------------------------------------------


def test_wrong_sizes_and_numbers_are_refused():
    blob = pack(draw("gaussian", (33, 6)), "rans").to_bytes()
    assert refusal(native.decode_tile, blob, 2).code in (INVALID_ARGUMENT, CORRUPT)
    assert refusal(native.expand, blob, (33, 5)).code == INVALID_ARGUMENT
    assert decode_anyway(blob, 0, 7)[0] == INVALID_ARGUMENT
    unaligned = np.frombuffer(b"xx" + blob, np.uint8)[2:]
    assert native.library().tfs_open(unaligned.ctypes.data + unaligned.ctypes.data % 4 + 1, len(blob), None, None) == INVALID_ARGUMENT


@pytest.mark.parametrize("codec", ["bitpack", "rans"])
def test_an_id_without_a_code_is_refused(codec):
    frequencies = (128, 128) + (0,) * 14 if codec == "rans" else ()
    parameters = CodecParameters(1 if codec == "bitpack" else 0, 0, 2 if codec == "rans" else 0, False, frequencies)
    assert "id=2" in str(refusal(native.encode_tile, np.array([0, 1, 2], np.int8), codec, parameters))


@pytest.mark.parametrize(
    "codec, parameters",
    [("rans", CodecParameters(0, 0, 2, False, (1, 2) + (0,) * 14)), ("rans", CodecParameters(5, 0, 2, False, (128, 128) + (0,) * 14)),
     ("rans", CodecParameters(0, 0, 2, False, (128, 0, 128) + (0,) * 13)), ("bitpack", CodecParameters(8)),
     ("bitpack", CodecParameters(0, 0, 0, True)), ("raw", CodecParameters(0, 3)), ("sparse", CodecParameters(1))],
)  # fmt: skip
def test_impossible_settings_are_refused(codec, parameters):
    assert refusal(native.encode_tile, np.zeros(5, np.int8), codec, parameters).code == INVALID_ARGUMENT


def test_instruction_sets_can_be_forced():
    assert native.isa_names()[0] == "scalar"
    for name in native.isa_names():
        native.force_isa(name)
        assert native.active_isa() == name
    assert "isa='mmx'" in str(refusal(native.force_isa, "mmx"))
    native.force_isa(None)
    assert native.active_isa() == native.isa_names()[-1]


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(native.DelegateLibraryError, match="none.so.*does not"):
        native.library_path()
    (tmp_path / "none.so").write_bytes(b"not a library")
    with pytest.raises(native.DelegateLibraryError, match="must load"):
        native.library()


def test_status_names():
    function = native.library().tfs_status_string
    assert [function(ctypes.c_int32(code)) for code in (0, 1, 2, 3, 4, 99)] == [
        b"ok", b"invalid argument", b"corrupt", b"unsupported", b"out of memory", b"unknown"]  # fmt: skip
