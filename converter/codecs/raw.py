"""`raw`: one byte per id. The fastest to decode and the yardstick of the others."""

import numpy as np

from tflite_smart.converter.codecs.base import Codec, CodecParameters
from tflite_smart.converter.errors import require


class Raw(Codec):
    name = "raw"
    number = 0
    tile_overhead_bytes = 4
    decode_time = 0.5

    def plan(self, histogram):
        return CodecParameters(), 8.0 * histogram.sum()

    def encode_tile(self, ids, parameters):
        return ids.astype(np.int8).tobytes()

    def fixed_bytes(self, count, parameters):
        return count

    def check_bytes(self, tile_bytes, count, parameters):
        require("tile_bytes", tile_bytes == count, tile_bytes, f"exactly {count}")

    def decode_tile(self, data, count, parameters):
        self.check_bytes(len(data), count, parameters)
        return np.frombuffer(data, np.int8, count)
