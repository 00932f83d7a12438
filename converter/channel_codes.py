"""Numbers of which a channel has one each, scales and biases, in a few bits: FORMAT.md, 3. Arrays in, bits out.

A scale is a width of buckets, which the encoder chose with few bits of mantissa. A bias is a whole multiple of a step that all channels share: it is one more weight, of an input that is
always 1, and as fine as the others is fine enough.
"""

import dataclasses

import numpy as np

MAX_CODE_BITS = {"scale": 8, "bias": 16}
MAX_MANTISSA_BITS = 7
_LARGEST_EXPONENT = 254  # of a finite float32
_LEAST_STEP, _MOST_STEP = 0x0080, 0x77FF  # upper halves of float32: normal, and 2^15 times it is finite


@dataclasses.dataclass(frozen=True)
class ScaleCodes:
    """Scales as codes of `bits` bits, uint32 `(num_channels,)`: 0, or the float32 whose upper bits are `(exponent << mantissa_bits) + code - 1`."""

    codes: np.ndarray
    bits: int
    exponent: int
    mantissa_bits: int

    @classmethod
    def of(cls, scales: np.ndarray | None) -> "ScaleCodes | None":
        """The fewest bits that hold these scales, float32 `(num_channels,)`, exactly; None where none do, or none is there."""
        if scales is None or not scales.any():
            return None
        bits = np.ascontiguousarray(scales, np.float32).view(np.uint32)
        used = bits[bits != 0]
        mantissa_bits, exponent = max(0, 23 - _trailing_zeros(used)), int(used.min()) >> 23
        codes = np.where(bits != 0, (bits >> 23 - min(mantissa_bits, 23)).astype(np.int64) - (exponent << mantissa_bits) + 1, 0)
        width = int(codes.max()).bit_length()
        return cls(codes.astype(np.uint32), width, exponent, mantissa_bits) if is_coding(exponent, mantissa_bits, width) else None

    def values(self) -> np.ndarray:
        """float32 `(num_channels,)`."""
        bits = (self.exponent << self.mantissa_bits) + self.codes.astype(np.int64) - 1 << 23 - self.mantissa_bits
        return np.where(self.codes > 0, bits, 0).astype(np.uint32).view(np.float32)

    def to_bytes(self) -> bytes:
        return pack_bits(self.codes, self.bits)


def is_coding(exponent: int, mantissa_bits: int, bits: int) -> bool:
    """Whether scales can be coded so: every one that a code may stand for is normal and finite."""
    known = exponent >= 1 and mantissa_bits <= MAX_MANTISSA_BITS and 1 <= bits <= MAX_CODE_BITS["scale"]
    return known and exponent + ((1 << bits) - 2 >> mantissa_bits) <= _LARGEST_EXPONENT


@dataclasses.dataclass(frozen=True)
class Bias:
    """Biases: `step` times `codes`, int32 `(num_channels,)`, of `bits` bits with their sign. `step` is a float32 of which only the upper half is not 0, so that the products are exact."""

    codes: np.ndarray
    bits: int
    step: float

    @classmethod
    def nearest(cls, values: np.ndarray, step: float) -> "Bias | None":
        """The nearest multiples of about this step, a little less; None where they need more bits than there are, or are no numbers. Where all are 0 any step will do.

        Args: values: float32 `(num_channels,)`.
        """
        if not values.any():
            return cls(np.zeros(len(values), np.int32), 1, 1.0)
        largest = float(np.abs(values).max())  # NaN is neither more nor less
        half = int(np.float32(max(step, largest / 2**20)).view(np.uint32)) >> 16 if largest < np.inf else 0
        if not is_step(half):
            return None
        step = step_of(half)
        codes = np.rint(values / np.float64(step))
        bits = 1 + int(max(codes.max(), -codes.min() - 1, 0)).bit_length()
        return cls(codes.astype(np.int32), bits, step) if bits <= MAX_CODE_BITS["bias"] else None

    @classmethod
    def from_bytes(cls, data: bytes, bits: int, num_channels: int) -> "Bias":
        codes = unpack_bits(data[2:], bits, num_channels).astype(np.int32)
        return cls(codes - ((codes >> bits - 1) << bits), bits, step_of(int.from_bytes(data[:2], "little")))

    def values(self) -> np.ndarray:
        """float32 `(num_channels,)`."""
        return self.codes.astype(np.float32) * np.float32(self.step)

    def to_bytes(self) -> bytes:
        half = int(np.float32(self.step).view(np.uint32)) >> 16
        return half.to_bytes(2, "little") + pack_bits(self.codes, self.bits)


def step_of(half: int) -> float:
    """The float32 with that upper half."""
    return float(np.uint32(half << 16).view(np.float32))


def is_step(half: int) -> bool:
    return _LEAST_STEP <= half <= _MOST_STEP


def packed_bytes(num_channels: int, bits: int) -> int:
    return -(-num_channels * bits // 8)


def pack_bits(codes: np.ndarray, bits: int) -> bytes:
    """The lowest `bits` bits of every code, one behind the other, each from its lowest bit on; bits fill a byte from its lowest on."""
    planes = codes.astype(np.int64)[:, None] >> np.arange(bits) & 1
    return np.packbits(planes.astype(np.uint8), bitorder="little").tobytes()


def unpack_bits(data: bytes, bits: int, count: int) -> np.ndarray:
    """Inverse of `pack_bits`: uint32 `(count,)`."""
    planes = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little").reshape(count, bits)
    return (planes.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)


def _trailing_zeros(bits: np.ndarray) -> int:
    """Of all of them together."""
    union = int(np.bitwise_or.reduce(bits))
    return (union & -union).bit_length() - 1
