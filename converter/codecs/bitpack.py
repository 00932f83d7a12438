"""`bitpack`: a fixed number of bits per id, outliers in the escape list. Decodes at memory speed."""

import numpy as np

from tflite_smart.converter.codecs import base
from tflite_smart.converter.codecs.base import Codec, CodecParameters

_MAX_BITS = 7


class BitPack(Codec):
    name = "bitpack"
    number = 1
    tile_overhead_bytes = 4

    def plan(self, histogram):
        used = np.flatnonzero(histogram)
        span = int(used[-1] - used[0]) + 1
        exact_bits = (span - 1).bit_length()
        options = []
        if exact_bits <= _MAX_BITS:
            options.append((exact_bits * histogram.sum(), CodecParameters(exact_bits, int(used[0]) + base.MIN_ID)))
        for bits in range(1, min(exact_bits, _MAX_BITS + 1)):
            start, outside = base.best_window(histogram, (1 << bits) - 1)
            options.append((bits * histogram.sum() + 8 * outside, CodecParameters(bits, start, has_escape=True)))
        if not options:
            return None
        total_bits, parameters = min(options, key=lambda option: option[0])
        return parameters, float(total_bits)

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
