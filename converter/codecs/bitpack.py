"""`bitpack`: a fixed number of bits per id, outliers in the escape list. Decodes at memory speed."""

import numpy as np

from tflite_smart.converter.codecs import base
from tflite_smart.converter.codecs.base import Codec, CodecParameters

_MAX_BITS = 7
_ESCAPE_TIME = 1.0  # what every id of a row costs more where the row has an escape


class BitPack(Codec):
    name = "bitpack"
    number = 1
    tile_overhead_bytes = 4
    decode_time = 1.0

    def plan(self, histogram):
        return min((plan[:2] for plan in self.plans(histogram)), key=lambda plan: plan[1], default=None)

    def plans(self, histogram):
        used, count = np.flatnonzero(histogram), float(histogram.sum())
        span = int(used[-1] - used[0]) + 1
        exact_bits = (span - 1).bit_length()
        plans = []
        if exact_bits <= _MAX_BITS:
            plans.append((CodecParameters(exact_bits, int(used[0]) + base.MIN_ID), exact_bits * count, self.decode_time * count))
        for bits in range(1, min(exact_bits, _MAX_BITS + 1)):
            start, outside = base.best_window(histogram, (1 << bits) - 1)
            rows_with_escape = 1 - (1 - outside / count) ** base.LANES
            plans.append((CodecParameters(bits, start, has_escape=True), bits * count + 8.0 * outside, (self.decode_time + _ESCAPE_TIME * rows_with_escape) * count))
        return plans

    def encode_tile(self, ids, parameters):
        escape_code = _escape_code(parameters)
        num_codes = escape_code if parameters.has_escape else escape_code + 1
        codes, escaped, escape_list = base.split_escapes(ids, parameters, num_codes)
        codes[escaped] = escape_code
        return base.pack_planes(base.pad_to_rows(codes, 0), parameters.raw_bits) + escape_list

    def fixed_bytes(self, count, parameters):
        return 4 * base.num_rows(count) * parameters.raw_bits

    def decode_tile(self, data, count, parameters):
        self.check_bytes(len(data), count, parameters)
        codes = base.unpack_planes(data, base.num_rows(count), parameters.raw_bits).reshape(-1)
        escaped = (codes == _escape_code(parameters)) & parameters.has_escape
        return base.join_escapes(codes, escaped, data[self.fixed_bytes(count, parameters) :], parameters)[:count]


def _escape_code(parameters: CodecParameters) -> int:
    return (1 << parameters.raw_bits) - 1
