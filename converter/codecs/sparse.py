"""`sparse`: one bit says whether an id is zero, the others follow as bytes. The fastest for pruned weights."""

import numpy as np

from tflite_smart.converter.codecs import base
from tflite_smart.converter.codecs.base import Codec, CodecParameters
from tflite_smart.converter.errors import PackedWeightError


class Sparse(Codec):
    name = "sparse"
    number = 3
    tile_overhead_bytes = 4

    def plan(self, histogram):
        num_nonzero = histogram.sum() - histogram[-base.MIN_ID]
        return CodecParameters(), float(histogram.sum() + 8 * num_nonzero)

    def encode_tile(self, ids, parameters):
        bitmap = base.pad_to_rows((ids != 0).astype(np.int32), 0)
        return base.pack_planes(bitmap, 1) + ids[ids != 0].astype(np.int8).tobytes()

    def decode_tile(self, data, count, parameters):
        rows = base.num_rows(count)
        if len(data) < 4 * rows:
            raise PackedWeightError(f"tile: a sparse tile must hold {4 * rows} bytes of bitmap. Received: {len(data)}.")
        nonzero = base.unpack_planes(data, rows, 1).reshape(-1)[:count].astype(bool)
        values = np.frombuffer(data, np.int8, offset=4 * rows)
        if len(values) != np.count_nonzero(nonzero):
            raise PackedWeightError(
                f"tile: a sparse tile must hold one byte per set bit. Received: {len(values)} bytes for {np.count_nonzero(nonzero)} bits."
            )
        ids = np.zeros(count, np.int8)
        ids[nonzero] = values
        return ids
