"""What every codec shares: its parameters, rows of 32 lanes, bit planes and the escape list (FORMAT.md, 4)."""

import abc
import dataclasses

import numpy as np

from tflite_smart.converter.errors import require

LANES = 32
MIN_ID, MAX_ID = -128, 127


@dataclasses.dataclass(frozen=True)
class CodecParameters:
    """The header fields that a codec needs to encode and decode tiles of one weight.

    Attributes:
        raw_bits: bit planes per row.
        base: the smallest id that has a code, -128..127.
        num_symbols: symbols of the entropy coder, 2..16; 0 for codecs without one.
        has_escape: whether the last code (or symbol) means 'read the escape list'.
        frequencies: 16 integers that sum to 256 for `rans`, else empty.
    """

    raw_bits: int = 0
    base: int = 0
    num_symbols: int = 0
    has_escape: bool = False
    frequencies: tuple[int, ...] = ()


class Codec(abc.ABC):
    """One way to store tiles of bucket ids. Subclasses are stateless; one instance each is listed in `codecs.CODECS`."""

    name: str
    number: int  # the header's `codec` field
    tile_overhead_bytes: int  # fixed cost of cutting a tensor in one tile more, index entry included
    decode_time: float  # of one id, in that of bitpack without escapes: the mean of AVX2 and AVX-512, rounded (delegates/bench/decode.cc)

    @abc.abstractmethod
    def plan(self, histogram: np.ndarray) -> tuple[CodecParameters, float] | None:
        """Chooses the cheapest parameters for ids with this histogram.

        Args:
            histogram: counts of the ids -128..127, int64 `(256,)`.

        Returns:
            The parameters and the estimated payload in bits, tile overhead not counted, or None where the codec can't store such ids.
        """

    def plans(self, histogram: np.ndarray) -> list[tuple[CodecParameters, float, float]]:
        """What may be cheapest where decoding time counts too: as `plan`, each with the time that all ids take to decode."""
        plan = self.plan(histogram)
        return [] if plan is None else [(*plan, self.decode_time * float(histogram.sum()))]

    @abc.abstractmethod
    def fixed_bytes(self, count: int, parameters: CodecParameters) -> int:
        """What every tile of `count` ids begins with: planes, states. For `raw` the whole tile."""

    def check_bytes(self, tile_bytes: int, count: int, parameters: CodecParameters) -> None:
        """Rule `tile_bytes` of FORMAT.md. Raises: PackedWeightError."""
        fixed = self.fixed_bytes(count, parameters)
        require("tile_bytes", tile_bytes >= fixed, tile_bytes, f"at least {fixed}")

    @abc.abstractmethod
    def encode_tile(self, ids: np.ndarray, parameters: CodecParameters) -> bytes:
        """Encodes one tile. `ids` is int8 `(count,)` in tile order."""

    @abc.abstractmethod
    def decode_tile(self, data: bytes, count: int, parameters: CodecParameters) -> np.ndarray:
        """Decodes one tile to int8 `(count,)`. Raises PackedWeightError where it is too short or does not end as it must."""


def num_rows(count: int) -> int:
    return -(-count // LANES)


def pad_to_rows(values: np.ndarray, fill: int) -> np.ndarray:
    """`(count,)` to `(rows, 32)`; the missing lanes of the last row hold `fill`."""
    padded = np.full(num_rows(len(values)) * LANES, fill, values.dtype)
    padded[: len(values)] = values
    return padded.reshape(-1, LANES)


def pack_planes(codes: np.ndarray, raw_bits: int) -> bytes:
    """Bit planes of `(rows, 32)` codes: for every row `raw_bits` u32, bit 0's plane first, lane j in bit j."""
    bits = (codes[:, None, :] >> np.arange(raw_bits, dtype=codes.dtype)[None, :, None]) & 1
    return np.packbits(bits.astype(np.uint8), axis=-1, bitorder="little").tobytes()


def unpack_planes(data: bytes, rows: int, raw_bits: int) -> np.ndarray:
    """Inverse of `pack_planes`: int32 `(rows, 32)`."""
    planes = np.frombuffer(data, np.uint8, rows * raw_bits * 4).reshape(rows, raw_bits, 4)
    bits = np.unpackbits(planes, axis=-1, bitorder="little").astype(np.int32)
    return (bits << np.arange(raw_bits, dtype=np.int32)[None, :, None]).sum(axis=1, dtype=np.int32)


def split_escapes(ids: np.ndarray, parameters: CodecParameters, num_codes: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Codes of the ids inside the window, which ids escape, and their list as it is stored (backwards).

    Args:
        ids: int8 `(count,)`.
        num_codes: how many ids, from `base` up, have a code of their own.

    Returns:
        int32 `(count,)` codes (0 where escaped), bool `(count,)`, and the bytes of the escape list.
    """
    codes = ids.astype(np.int32) - parameters.base
    escaped = (codes < 0) | (codes >= num_codes)
    if escaped.any() and not parameters.has_escape:
        raise ValueError("ids must lie inside the window of a codec without escape.")
    return np.where(escaped, 0, codes), escaped, ids[escaped][::-1].astype(np.int8).tobytes()


def join_escapes(codes: np.ndarray, escaped: np.ndarray, escape_list: bytes, parameters: CodecParameters) -> np.ndarray:
    """Inverse of `split_escapes` for whole rows: int8 ids. `escape_list` must hold exactly one byte per escaped lane."""
    num_escaped = int(np.count_nonzero(escaped))
    require("tile_end", len(escape_list) == num_escaped, f"{len(escape_list)} bytes", f"an escape list of {num_escaped} bytes")
    ids = (codes + parameters.base).astype(np.int8)
    ids[escaped] = np.frombuffer(escape_list, np.int8)[::-1]
    return ids


def best_window(histogram: np.ndarray, width: int) -> tuple[int, int]:
    """Start (as an id) of the `width` neighbouring ids that cover most of the histogram, and how many fall outside."""
    width = min(width, len(histogram))
    cumulative = np.concatenate([[0], np.cumsum(histogram)])
    covered = cumulative[width:] - cumulative[:-width]
    start = int(np.argmax(covered))
    return start + MIN_ID, int(cumulative[-1] - covered[start])
