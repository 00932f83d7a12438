"""`rans`: entropy coding with 16 symbols, 256 slots and 32 lanes, every table a byte shuffle.

READ FIRST. A range-variant ANS coder (Duda, arXiv:1311.2540) keeps all information in one integer `x`. To encode symbol `s` of frequency `f`
(out of 256) it maps `x` to `256 * (x // f) + slot`, where `slot` is one of the `f` slots of `s`, picked by `x % f`; decoding inverts that, so it yields
the symbols in the opposite order: the encoder runs backwards. `x` stays in [256, 65536) by moving single bytes to and from a stream. Three choices make it fast on
every instruction set without a single gather:

* 256 slots and 16-bit states: slot and quotient are the two bytes of the state;
* 16 symbols with the slots dealt out by the alias method: a slot's high nibble selects a bucket, its low nibble one of the two symbols that share the bucket;
* ids have up to 256 values but only 16 symbols: the low `raw_bits` of an id, nearly uniform when the distribution is wide, bypass the coder as bit planes, and what
  lies outside the window escapes.
"""

import functools

import numpy as np

from tflite_smart.converter.codecs import base
from tflite_smart.converter.codecs.base import LANES, Codec, CodecParameters
from tflite_smart.converter.errors import require

SLOTS = 256
MAX_SYMBOLS = 16
MAX_RAW_BITS = 4
_BUCKET = SLOTS // MAX_SYMBOLS
_LOWEST_STATE = 256


class Rans(Codec):
    name = "rans"
    number = 2
    tile_overhead_bytes = 4 + 32  # index entry; 64 bytes of states carry half of their bits as information
    decode_time = 4.0

    def plan(self, histogram):
        best = None
        for raw_bits in range(MAX_RAW_BITS + 1):
            for num_window in range(1, MAX_SYMBOLS + 1):
                parameters, bits = _plan_window(histogram, raw_bits, num_window)
                if parameters and (best is None or bits < best[1]):
                    best = parameters, bits
        return best

    def encode_tile(self, ids, parameters):
        escape_symbol = parameters.num_symbols - 1
        num_codes = (escape_symbol if parameters.has_escape else parameters.num_symbols) << parameters.raw_bits
        codes, escaped, escape_list = base.split_escapes(ids, parameters, num_codes)
        symbols = codes >> parameters.raw_bits
        symbols[escaped] = escape_symbol
        symbols = base.pad_to_rows(symbols, _padding_symbol(parameters))
        planes = base.pack_planes(base.pad_to_rows(codes, 0), parameters.raw_bits)
        return planes + _encode_symbols(symbols, parameters.frequencies) + escape_list

    def fixed_bytes(self, count, parameters):
        return 4 * base.num_rows(count) * parameters.raw_bits + 2 * LANES

    def decode_tile(self, data, count, parameters):
        self.check_bytes(len(data), count, parameters)
        rows = base.num_rows(count)
        symbols, stream_bytes = _decode_symbols(data[4 * rows * parameters.raw_bits :], rows, parameters.frequencies)
        codes = (symbols << parameters.raw_bits) | base.unpack_planes(data, rows, parameters.raw_bits)
        escaped = (symbols.reshape(-1) == parameters.num_symbols - 1) & parameters.has_escape
        escape_list = data[self.fixed_bytes(count, parameters) + stream_bytes :]
        return base.join_escapes(codes.reshape(-1), escaped, escape_list, parameters)[:count]


@functools.lru_cache(maxsize=64)
def alias_tables(frequencies: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`divider`, `alias`, `own_rank` and `alias_rank`, int32 `(16,)` each, from 16 frequencies that sum to 256 (FORMAT.md, 4)."""
    left = list(frequencies)
    unfilled = set(range(MAX_SYMBOLS))
    divider, alias, own_rank, alias_rank = (np.zeros(MAX_SYMBOLS, np.int32) for _ in range(4))
    for _ in range(MAX_SYMBOLS):
        i = min(unfilled, key=lambda bucket: (left[bucket], bucket))
        unfilled.remove(i)
        divider[i], alias[i] = left[i], i
        if left[i] < _BUCKET:
            j = min(unfilled, key=lambda bucket: (-left[bucket], bucket))
            left[j] -= _BUCKET - divider[i]
            alias[i] = j
    seen = np.zeros(MAX_SYMBOLS, np.int32)
    for bucket in range(MAX_SYMBOLS):
        own_rank[bucket] = seen[bucket]
        seen[bucket] += divider[bucket]
        alias_rank[bucket] = (seen[alias[bucket]] - divider[bucket]) & 255
        seen[alias[bucket]] += _BUCKET - divider[bucket]
    return divider, alias, own_rank, alias_rank


@functools.lru_cache(maxsize=64)
def slot_tables(frequencies: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The alias tables unrolled over the 256 slots, int32 all.

    Returns:
        symbol `(256,)` and rank `(256,)` of each slot, start `(16,)` of each symbol, and the slot `(256,)` of start[symbol] + rank.
    """
    divider, alias, own_rank, alias_rank = alias_tables(frequencies)
    slot = np.arange(SLOTS, dtype=np.int32)
    bucket, position = slot >> 4, slot & 15
    own = position < divider[bucket]
    symbol = np.where(own, bucket, alias[bucket]).astype(np.int32)
    rank = (position + np.where(own, own_rank[bucket], alias_rank[bucket])) & 255
    start = np.concatenate([[0], np.cumsum(frequencies)[:-1]]).astype(np.int32)
    slot_of = np.zeros(SLOTS, np.int32)
    slot_of[start[symbol] + rank] = slot
    return symbol, rank, start, slot_of


def _encode_symbols(symbols: np.ndarray, frequencies: tuple[int, ...]) -> bytes:
    """States and stream of `(rows, 32)` symbols."""
    _, _, start, slot_of = slot_tables(frequencies)
    frequency = np.asarray(frequencies, np.int32)
    state = np.full(LANES, _LOWEST_STATE, np.int32)
    pieces = []
    for row in symbols[::-1]:
        f = frequency[row]
        full = state >= f << 8
        pieces.append((state[full] & 255).astype(np.uint8))
        state = np.where(full, state >> 8, state)
        state = (state // f << 8) | slot_of[start[row] + state % f]
    stream = np.concatenate(pieces[::-1]) if pieces else np.zeros(0, np.uint8)
    return state.astype("<u2").tobytes() + stream.tobytes()


def _decode_symbols(data: bytes, rows: int, frequencies: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Symbols int32 `(rows, 32)`, and how many bytes the stream took."""
    symbol_of, rank_of, _, _ = slot_tables(frequencies)
    frequency = np.asarray(frequencies, np.int32)
    state = np.frombuffer(data, "<u2", LANES).astype(np.int32)
    stream = np.frombuffer(data, np.uint8, offset=2 * LANES)
    stream_bytes = len(stream)
    stream = np.concatenate([stream, np.zeros(LANES, np.uint8)])  # a damaged tile reads on behind its end; whatever that gives, it is refused
    taken = 0
    symbols = np.zeros((rows, LANES), np.int32)
    for row in range(rows):
        slot, quotient = state & 255, state >> 8
        symbols[row] = symbol_of[slot]
        state = frequency[symbols[row]] * quotient + rank_of[slot]
        empty = np.flatnonzero(state < _LOWEST_STATE)
        start = min(taken, stream_bytes)
        state[empty] = state[empty] << 8 | stream[start : start + len(empty)]
        taken += len(empty)
    require("tile_end", taken <= stream_bytes, f"{taken} bytes read", f"within {stream_bytes} bytes of stream")
    require("tile_end", np.all(state == _LOWEST_STATE), state.tolist(), f"{_LOWEST_STATE} in every state")
    return symbols, taken


def _padding_symbol(parameters: CodecParameters) -> int:
    """The likeliest symbol that is not the escape: what the lanes past the last id hold."""
    last = parameters.num_symbols - (1 if parameters.has_escape else 0)
    return int(np.argmax(parameters.frequencies[:last]))


def _plan_window(histogram: np.ndarray, raw_bits: int, num_window: int) -> tuple[CodecParameters | None, float]:
    """Parameters with `num_window` symbols for the ids around the mode and, if ids are left outside, one for the escape; and their cost in bits."""
    start, outside = base.best_window(histogram, num_window << raw_bits)
    num_symbols = num_window + (1 if outside else 0)
    if not 2 <= num_symbols <= MAX_SYMBOLS:
        return None, 0.0
    counts = np.zeros(MAX_SYMBOLS, np.int64)
    window = histogram[start - base.MIN_ID :][: num_window << raw_bits]
    padded = np.zeros(num_window << raw_bits, np.int64)
    padded[: len(window)] = window
    counts[:num_window] = padded.reshape(num_window, -1).sum(axis=1)
    if outside:
        counts[num_window] = outside
    if np.count_nonzero(counts) < 2:
        return None, 0.0
    frequencies, coded_bits = quantize_frequencies(counts)
    bits = coded_bits + raw_bits * histogram.sum() + 8 * outside
    return CodecParameters(raw_bits, start, num_symbols, bool(outside), frequencies), float(bits)


def quantize_frequencies(counts: np.ndarray) -> tuple[tuple[int, ...], float]:
    """Integer frequencies that sum to 256 and code `counts` in the fewest bits.

    The cost `-sum counts log2(f / 256)` is convex in f, so moving single slots from where they help least to where they help most ends at the optimum.

    Args:
        counts: int64 `(16,)`, at least two of them positive.

    Returns:
        16 frequencies, positive exactly where the counts are, and the cost in bits.
    """
    used = counts > 0
    f = np.where(used, np.maximum(1, counts * SLOTS // counts.sum()), 0)
    while True:
        gain = np.where(used, counts * np.log2((f + 1) / np.maximum(f, 1)), -np.inf)  # bits saved by one slot more
        loss = np.where(f > 1, counts * np.log2(np.maximum(f, 2) / np.maximum(f - 1, 1)), np.inf)  # bits lost by one slot less
        up, down = np.argmax(gain), np.argmin(loss)
        if f.sum() == SLOTS and gain[up] <= loss[down] * (1 + 1e-12):
            break
        f[up] += f.sum() <= SLOTS
        f[down] -= f.sum() > SLOTS
    return tuple(int(v) for v in f), float(-(counts[used] * np.log2(f[used] / SLOTS)).sum())
