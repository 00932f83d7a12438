"""Right check sums for damaged packed weights, so that tampering reaches the rules behind them."""

import struct
import zlib

from tflite_smart.converter.format import HEADER_BYTES, PADDING_BYTES

_PAYLOAD_BYTES, _PAYLOAD_CRC, _HEADER_CRC = 28, 32, 36  # offsets in the header


def sealed(blob: bytes) -> bytes:
    """`blob` with both CRCs made right, if its lengths leave room for what they cover."""
    blob = bytearray(blob)
    start = len(blob) - PADDING_BYTES - struct.unpack_from("<I", blob, _PAYLOAD_BYTES)[0]
    if start >= HEADER_BYTES:
        struct.pack_into("<I", blob, _PAYLOAD_CRC, zlib.crc32(blob[start : len(blob) - PADDING_BYTES]))
        struct.pack_into("<I", blob, _HEADER_CRC, zlib.crc32(blob[HEADER_BYTES:start], zlib.crc32(blob[:_HEADER_CRC])))
    return bytes(blob)
