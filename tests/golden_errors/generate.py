"""Writes the golden errors: for every rule of FORMAT.md, section 5, small packed weights that break it and no other rule before it.

    python tests/golden_errors/generate.py

Every file starts from a valid weight, breaks one thing, and gets right check sums again unless they are what is broken. A new rule is one line in `BREAKS`; the name
of its files is the rule's, with `.2`, `.3` behind it where a rule has several sides.
"""

import dataclasses
import struct
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.golden_errors.sealing import CRC, sealed
from tflite_smart.converter.channel_codes import Bias
from tflite_smart.converter.codecs import CODECS, CodecParameters, smartdeal
from tflite_smart.converter.format import HEADER_BYTES, READABLE_BYTES, PackedWeight, tile_count, tile_order

FOLDER = Path(__file__).parent
CODINGS = {
    "raw": CodecParameters(),
    "bitpack": CodecParameters(3, -4, has_escape=True),
    "constant": CodecParameters(0, 2),
    "rans": CodecParameters(1, -4, 5, True, (60, 70, 70, 40, 16) + (0,) * 11),
    "sparse": CodecParameters(),
}
# What follows the payload of a rans weight of 40 channels in two tiles, counted from its end.
TILE_END = -4
SCALES = TILE_END - 4 * 40
FREQUENCIES = SCALES - 16
STATES = HEADER_BYTES + 4 * 5  # behind the planes of tile 0
GROUPING = HEADER_BYTES  # with value kind smartdeal


def valid(coding: str = "rans", value_kind: str = "uniform") -> bytes:
    """40 channels of 5 weights: a whole panel and a narrow one, in two tiles."""
    codec = "bitpack" if coding == "constant" else coding
    ids = np.random.default_rng(2101).integers(-5, 6, (40, 5)).astype(np.int8)
    if coding == "constant":
        ids[:] = 2
    scales = None if value_kind == "integer" else np.linspace(0.5, 1, 40, dtype=np.float32)
    codebook = np.arange(256, dtype=np.float32) if value_kind == "codebook" else None
    basis = smartdeal.Basis(3, 1, 1, np.arange(2 * 3 * 3 * 40).astype(np.int8).reshape(2, 3, 3, 40)) if value_kind == "smartdeal" else None
    tiles = [CODECS[codec].encode_tile(tile_order(ids, t, 1), CODINGS[coding]) for t in range(tile_count(40, 1))]
    return PackedWeight(codec, value_kind, CODINGS[coding], 40, 5, 1, 1, scales, codebook, tiles, basis).to_bytes()


def put(blob: bytes, offset: int, value: bytes) -> bytes:
    """`blob` with other bytes at `offset`; from the end if it is negative."""
    offset %= len(blob)
    return blob[:offset] + value + blob[offset + len(value) :]


def broken(offset: int, value: bytes, coding: str = "rans", value_kind: str = "uniform") -> bytes:
    return sealed(put(valid(coding, value_kind), offset, value))


def resized(coding: str, tile_bytes: int) -> bytes:
    """The last tile made `tile_bytes` longer or shorter; the length in the header says so."""
    blob = valid(coding)
    old_end = HEADER_BYTES + struct.unpack_from("<I", blob, 28)[0]
    end = old_end + tile_bytes
    payload = blob[HEADER_BYTES : min(end, old_end)] + bytes(max(tile_bytes, 0))
    blob = blob[:HEADER_BYTES] + payload + bytes(-end % 4) + blob[old_end + -old_end % 4 :]
    return sealed(put(blob, 28, struct.pack("<I", end - HEADER_BYTES)))


def with_gap() -> bytes:
    """Not 0 between the payload and what follows it."""
    blob = resized("constant", 1)
    return sealed(put(blob, HEADER_BYTES + 1, b"\1"))


def put_codes(exponent: int, coding: int) -> bytes:
    """Said to have scale codes; the size is checked later."""
    return sealed(put(broken(11, bytes([exponent])), 27, bytes([coding])))


def with_bias(step: int) -> bytes:
    """Biases of this step."""
    blob = dataclasses.replace(PackedWeight.from_bytes(valid()), bias=Bias(np.arange(40), 7, 0.5)).to_bytes()
    return sealed(put(blob, HEADER_BYTES + struct.unpack_from("<I", blob, 28)[0], struct.pack("<H", step)))


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


INF, NAN = struct.pack("<f", np.inf), struct.pack("<f", np.nan)

BREAKS = {
    "size": [b"", valid()[:75], valid()[:-1], valid() + b"\0", broken(28, u32(0xFFFFFFFF))],
    "magic": [broken(0, b"TFSX")],
    "version": [broken(4, b"\1")],
    "codec": [broken(5, b"\xff")],
    "value_kind": [broken(6, b"\xff")],
    "scale_exponent": [broken(11, b"\1", value_kind="integer")],
    "scale_coding": [broken(11, b"\1"), broken(27, b"\x01"), put_codes(254, 0x02), put_codes(1, 0x09), put_codes(1, 0x81)],
    "bias_bits": [broken(26, b"\x11")],
    "bias_step": [with_bias(0x007F), with_bias(0x7800), with_bias(0xFF80)],
    "raw_bits": [broken(7, b"\5"), broken(7, b"\x08", "bitpack"), broken(7, b"\1", "raw"), broken(7, b"\1", "sparse")],
    "base": [broken(8, b"\1", "raw"), broken(8, b"\xff", "sparse")],
    "num_symbols": [broken(9, b"\1"), broken(9, b"\x11"), broken(9, b"\2", "bitpack")],
    "has_escape": [broken(10, b"\2"), broken(10, b"\1", "raw"), broken(10, b"\1", "sparse"), broken(10, b"\1", "constant")],
    "num_channels": [broken(12, u32(0))],
    "channel_elements": [broken(16, u32(0))],
    "num_elements": [broken(16, u32(53687092), "constant"), broken(12, u32(0xFFFFFFFF) * 2, "constant", "integer")],
    "inner_elements": [broken(20, u32(0)), broken(20, u32(2))],
    "panels_per_tile": [broken(24, u32(0)), broken(24, u32(3))],
    "group_size": [broken(GROUPING, u32(0), value_kind="smartdeal"), broken(GROUPING, u32(9), value_kind="smartdeal")],
    "group_stride": [broken(GROUPING + 4, u32(0), value_kind="smartdeal"), broken(GROUPING + 4, u32(2), value_kind="smartdeal")],
    "slice_groups": [broken(GROUPING + 8, u32(0), value_kind="smartdeal"), broken(GROUPING + 8, u32(3), value_kind="smartdeal")],
    "crc": [put(valid(), CRC, b"\0\0\0\0"), put(valid(), HEADER_BYTES, b"\xff"), put(valid(), SCALES, b"\xff")],
    "frequencies": [broken(FREQUENCIES, b"\x3b"), broken(FREQUENCIES + 15, b"\1")],
    "codebook": [broken(SCALES - 4, NAN, "bitpack", "codebook")],
    "scales": [broken(SCALES, INF), broken(SCALES + 4 * 39, NAN)],
    "tile_ends": [broken(TILE_END, u32(0xFFFFFF00))],
    "tile_bytes": [resized("raw", 1), resized("raw", -1), resized("bitpack", -40), resized("rans", -80), resized("sparse", -38)],
    "padding": [broken(-1, b"\1", "constant", "integer"), broken(-READABLE_BYTES + 4, b"\1", "constant", "integer"), with_gap()],
    "tile_end": [resized("rans", 1), resized("rans", -1), resized("bitpack", 1), resized("sparse", -1), resized("constant", 1), broken(STATES, bytes(64))],
}  # fmt: skip


def main() -> None:
    for old in FOLDER.glob("*.tfsw"):
        old.unlink()
    for rule, blobs in BREAKS.items():
        for number, blob in enumerate(blobs, 1):
            (FOLDER / f"{rule}{f'.{number}' if number > 1 else ''}.tfsw").write_bytes(blob)


if __name__ == "__main__":
    main()
