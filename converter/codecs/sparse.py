"""`sparse`: one bit says whether an id is zero, the others follow as bytes. The fastest for pruned weights."""

import numpy as np

from tflite_smart.converter.codecs import base
from tflite_smart.converter.codecs.base import Codec, CodecParameters
from tflite_smart.converter.errors import require


class Sparse(Codec):
    name = "sparse"
    number = 3
    tile_overhead_bytes = 4
    decode_time = 1.5

    def plan(self, histogram):
        num_nonzero = histogram.sum() - histogram[-base.MIN_ID]
        return CodecParameters(), float(histogram.sum() + 8 * num_nonzero)

    def encode_tile(self, ids, parameters):
        bitmap = base.pad_to_rows((ids != 0).astype(np.int32), 0)
        return base.pack_planes(bitmap, 1) + ids[ids != 0].astype(np.int8).tobytes()

    def fixed_bytes(self, count, parameters):
        return 4 * base.num_rows(count)

    def decode_tile(self, data, count, parameters):
        self.check_bytes(len(data), count, parameters)
        rows = base.num_rows(count)
        nonzero = base.unpack_planes(data, rows, 1).reshape(-1).astype(bool)
        values = np.frombuffer(data, np.int8, offset=self.fixed_bytes(count, parameters))
        num_nonzero = int(np.count_nonzero(nonzero))
        require("tile_end", len(values) == num_nonzero, f"{len(values)} bytes", f"behind {num_nonzero} values")
        ids = np.zeros(len(nonzero), np.int8)
        ids[nonzero] = values
        return ids[:count]
