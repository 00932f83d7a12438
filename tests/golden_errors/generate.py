"""Writes the golden errors: for every rule of FORMAT.md, section 5, small packed weights that break it and no other rule before it.

    python tests/golden_errors/generate.py

Every file starts from a valid weight, breaks one thing, and gets right check sums again unless they are what is broken. A new rule is one line in `BREAKS`; the name
of its files is the rule's, with `.2`, `.3` behind it where a rule has several sides.
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.golden_errors.sealing import sealed
from tflite_smart.converter.codecs import CODECS, CodecParameters, smartdeal
from tflite_smart.converter.format import HEADER_BYTES, PADDING_BYTES, PackedWeight, tile_count, tile_order

FOLDER = Path(__file__).parent
CODINGS = {
    "raw": CodecParameters(),
    "bitpack": CodecParameters(3, -4, has_escape=True),
    "constant": CodecParameters(0, 2),
    "rans": CodecParameters(1, -4, 5, True, (60, 70, 70, 40, 16) + (0,) * 11),
    "sparse": CodecParameters(),
}
FREQUENCIES = HEADER_BYTES  # where the sections of a rans weight of 40 channels in two tiles begin
SCALES = FREQUENCIES + 16
TILE_INDEX = SCALES + 4 * 40
STATES = TILE_INDEX + 4 * 3 + 4 * 5  # behind the planes of tile 0
GROUPING = SCALES  # with value kind smartdeal


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
    """The last tile made `tile_bytes` longer or shorter; index and length in the header say so."""
    blob = valid(coding)
    payload_bytes = struct.unpack_from("<I", blob, 28)[0] + tile_bytes
    payload_end = len(blob) - PADDING_BYTES
    blob = blob[: payload_end + min(tile_bytes, 0)] + bytes(max(tile_bytes, 0)) + bytes(PADDING_BYTES)
    blob = put(blob, 28, struct.pack("<I", payload_bytes))
    return sealed(put(blob, len(blob) - PADDING_BYTES - payload_bytes - 4, struct.pack("<I", payload_bytes)))


def with_crc(offset: int) -> bytes:
    """One bit of a stored check sum flipped; the header's own is made right again if it is not the one."""
    blob = bytearray(valid())
    blob[offset] ^= 1
    if offset != 36:
        payload_bytes = struct.unpack_from("<I", blob, 28)[0]
        sections = blob[HEADER_BYTES : len(blob) - PADDING_BYTES - payload_bytes]
        struct.pack_into("<I", blob, 36, zlib.crc32(sections, zlib.crc32(blob[:36])))
    return bytes(blob)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


INF, NAN = struct.pack("<f", np.inf), struct.pack("<f", np.nan)

BREAKS = {
    "size": [b"", valid()[:79], valid()[:-1], valid() + b"\0", broken(28, u32(0xFFFFFFFF))],
    "magic": [broken(0, b"TFSX")],
    "version": [broken(4, b"\1")],
    "codec": [broken(5, b"\xff")],
    "value_kind": [broken(6, b"\xff")],
    "scale_exponent": [broken(11, b"\xf0"), broken(11, b"\1", value_kind="integer")],
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
    "header_crc": [with_crc(36)],
    "frequencies": [broken(FREQUENCIES, b"\x3b"), broken(FREQUENCIES + 15, b"\1")],
    "codebook": [broken(HEADER_BYTES + 4 * 255, NAN, "bitpack", "codebook")],
    "scales": [broken(SCALES, INF), broken(SCALES + 4 * 39, NAN)],
    "tile_index": [broken(TILE_INDEX, u32(1)), broken(TILE_INDEX + 4, u32(0xFFFFFF00)), broken(TILE_INDEX + 8, u32(0))],
    "tile_bytes": [resized("raw", 1), resized("raw", -1), resized("bitpack", -40), resized("rans", -80), resized("sparse", -38)],
    "padding": [put(valid(), -1, b"\1"), put(valid(), -PADDING_BYTES, b"\1")],
    "payload_crc": [with_crc(32)],
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
