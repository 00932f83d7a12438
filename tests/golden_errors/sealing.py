"""Right check sums for damaged packed weights, so that tampering reaches the rules behind them."""

import struct
import zlib

from tflite_smart.converter.format import HEADER_BYTES

CRC = 32  # offset in the header


def sealed(blob: bytes) -> bytes:
    """`blob` with its CRC made right, if there is a header."""
    blob = bytes(blob)
    if len(blob) < HEADER_BYTES:
        return blob
    crc = zlib.crc32(blob[HEADER_BYTES:], zlib.crc32(blob[:CRC]))
    return blob[:CRC] + struct.pack("<I", crc) + blob[HEADER_BYTES:]
