"""`raw`: one byte per id. The fastest to decode and the yardstick of the others."""

import numpy as np

from tflite_smart.converter.codecs.base import Codec, CodecParameters
from tflite_smart.converter.errors import PackedWeightError


class Raw(Codec):
    name = "raw"
    number = 0
    tile_overhead_bytes = 4

    def plan(self, histogram):
        return CodecParameters(), 8.0 * histogram.sum()

    def encode_tile(self, ids, parameters):
        return ids.astype(np.int8).tobytes()

    def decode_tile(self, data, count, parameters):
        if len(data) != count:
            raise PackedWeightError(f"tile: a raw tile must hold one byte per id. Received: {len(data)} bytes for {count} ids.")
        return np.frombuffer(data, np.int8, count)
