"""What the C++ and the numpy decoder say of a packed weight."""

import re

from tflite_smart.converter.errors import PackedWeightError
from tflite_smart.converter.format import PackedWeight
from tflite_smart.delegates import native


def rule_of(error: Exception) -> str:
    """The name of the broken rule, from the message."""
    match = re.match(r"packed weight: (\w+) must be .* Received: ", str(error))
    assert match, f"not the pattern of FORMAT.md, 5: {error}"
    return match[1]


def read_native(blob: bytes) -> list[bytes]:
    return [native.decode_tile(blob, tile).tobytes() for tile in range(native.open_packed(blob).num_tiles)]


def read_numpy(blob: bytes) -> list[bytes]:
    packed = PackedWeight.from_bytes(blob)
    return [packed.decode_tile(tile).tobytes() for tile in range(packed.num_tiles)]


def verdict(read, blob: bytes) -> tuple[str, list[bytes]]:
    """The broken rule and nothing, or nothing and the ids of every tile."""
    try:
        return "", read(blob)
    except (PackedWeightError, native.NativeError) as error:
        return rule_of(error), []
