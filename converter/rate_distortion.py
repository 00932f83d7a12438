"""What coarser buckets save and cost in one weight: bits and error over a range of settings, counted on the weight itself.

The textbook's law, one bit for every 6 dB, holds for fine steps and weights of one size. Trained layers have faint channels, whose weights all fall into bucket 0 long before the
others', and outliers, which bound the step from below; on such layers the law is wrong by bits.
"""

import dataclasses

import numpy as np

from tflite_smart.converter import buckets
from tflite_smart.converter.format import to_matrix

# Relative errors to ask for: 1.7 dB apart, below 0.4 % finer than int8's. At 80 % a weight takes about a bit, and one in six is not 0.
_ASKED = np.geomspace(0.003, 0.8, 30)
_FINER = 8  # points between two of them, interpolated
_MOST_ELEMENTS = 1 << 16  # of a large weight only some channels are counted


@dataclasses.dataclass(frozen=True)
class Curve:
    """Over `asked`, the relative errors to ask `TensorSettings` for: `bits` per weight, and `noise`, the error power over the weights' that plain rounding really has."""

    asked: np.ndarray
    bits: np.ndarray
    noise: np.ndarray

    def noise_at(self, asked: float) -> float:
        return float(np.exp(np.interp(np.log(asked), np.log(self.asked), np.log(self.noise))))


def count(values: np.ndarray, axis: int, channel_exponent: float, midrise: bool = False) -> Curve:
    """The curve of one float32 tensor. Bits are the order-0 entropy of its bucket ids."""
    matrix = to_matrix(values, axis)
    channels = np.unique(np.linspace(0, len(matrix) - 1, max(1, min(len(matrix), _MOST_ELEMENTS // matrix.shape[1]))).astype(int))
    part = matrix[channels]
    power = max(float(np.square(part, dtype=np.float64).sum()), 1e-300)
    bits, noise = [], []
    for asked in _ASKED:
        steps = buckets.bucket_steps(matrix, asked, channel_exponent)[channels]
        ids = buckets.to_buckets(part, steps, midrise)
        error = part - steps[:, None] * (ids + np.float32(0.5 if midrise else 0.0))
        bits.append(_entropy(ids))
        noise.append(max(float(np.square(error, dtype=np.float64).sum()) / power, 1e-12))
    finer = np.linspace(0, len(_ASKED) - 1, _FINER * (len(_ASKED) - 1) + 1)
    at = np.arange(len(_ASKED))
    return Curve(np.exp(np.interp(finer, at, np.log(_ASKED))), np.interp(finer, at, bits), np.exp(np.interp(finer, at, np.log(noise))))


def _entropy(ids: np.ndarray) -> float:
    share = np.bincount(ids.reshape(-1).view(np.uint8), minlength=256) / ids.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())
