"""From weights to bucket ids: sign remapping and error-bounded residual buckets (Smart-DNN+), binary, and plain integers.

Everything here is arrays in, arrays out. FORMAT.md, 1 explains why a sign remapped to a value on the bucket grid and the bucket of its residual are one id.
Source: Smart-DNN+, ACM TACO 2023, doi 10.1145/3617688.
"""

import dataclasses

import numpy as np

from tflite_smart.converter.codecs.base import MAX_ID, MIN_ID
from tflite_smart.converter.trellis import MAX_DEPENDENT_ID

_SMALLEST_STEP = np.finfo(np.float32).tiny
_BLOCK_ELEMENTS = 1 << 21
_DEPENDENT_STEP = 0.56  # the half step, and what the finer choice of points allows
_MOST_ZEROS, _MOST_PRUNED = 0.6, 0.3
_MOST_MANTISSA_BITS, _MOST_NOISE = 4, 1.06
_GRID_TOLERANCE = 127 * 4 * np.finfo(np.float32).eps  # a few roundings of a number of up to 127 steps


def bucket_steps(weights: np.ndarray, relative_error: float, channel_exponent: float = 1.0) -> np.ndarray:
    """Width 2e of the residual buckets of every output channel.

    Uniform rounding with step d has the mean square error d^2 / 12, that of a weight of 0 is 0. The steps follow the channels' own size, `step[n] ~ rms[n] ** channel_exponent`, and are
    scaled so that the layer's error reaches `relative_error`. A channel with an outlier gets at least the step that keeps the outlier in an 8-bit id, so
    no weight is ever clipped.

    Args:
        weights: float32 `(num_channels, channel_elements)`.
        relative_error: rms of the error over rms of the weights, > 0.
        channel_exponent: 0 gives all channels one absolute bound, 1 one relative bound.

    Returns:
        float32 `(num_channels,)`; 0 for a channel of zeros. Any number: `coarse` makes them such as are stored in few bits.
    """
    return Channels.of(weights).steps(relative_error, channel_exponent)


@dataclasses.dataclass(frozen=True)
class Channels:
    """What the steps follow from: the mean square of every channel, float64, the share of its weights that are not 0, and its largest magnitude, float32, all `(num_channels,)`."""

    power: np.ndarray
    share: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, weights: np.ndarray) -> "Channels":
        power = np.einsum("nk,nk->n", weights, weights, dtype=np.float64) / weights.shape[1]
        return cls(power, np.count_nonzero(weights, axis=1) / weights.shape[1], np.maximum(weights.max(axis=1), -weights.min(axis=1)))

    def steps(self, relative_error: float, channel_exponent: float) -> np.ndarray:
        """As `bucket_steps`."""
        shape = np.where(self.power > 0, np.power(np.maximum(self.power, 1e-300), channel_exponent / 2), 0.0)
        total, shaped = self.power.sum(), (np.square(shape) * self.share).sum()
        if total == 0:
            return np.zeros(len(self.power), np.float32)
        steps = np.maximum(shape * relative_error * np.sqrt(12.0 * total / shaped), self.largest / np.float32(MAX_ID + 0.25))
        return np.where(steps >= _SMALLEST_STEP, steps, 0).astype(np.float32)


def coarse(steps: np.ndarray, channel_elements: int, least: np.ndarray | float = 0.0) -> np.ndarray:
    """Steps of which a packed weight keeps a few bits: the nearest float32 with few bits of mantissa, but not below `least`.

    Widths that are off by up to a part e cost about e^2 / 4 bit in each of a channel's weights, and with every bit of mantissa e is half as large: a bit costs what it saves where
    4^bits is a tenth of the weights. There are more where many steps are at their least and would be rounded up.
    """
    steps = np.maximum(steps, least)
    fewest = int(np.clip(np.rint(np.log2(channel_elements / 10) / 2), 0, _MOST_MANTISSA_BITS))
    for bits in range(fewest, _MOST_MANTISSA_BITS + 1):
        mantissa, exponent = np.frexp(steps)
        exponent -= bits + 1
        whole = np.rint(np.ldexp(mantissa, bits + 1))
        whole += np.ldexp(whole, exponent) < least
        rounded = np.ldexp(whole, exponent).astype(np.float32)
        if np.square(rounded, dtype=np.float64).sum() <= _MOST_NOISE * np.square(steps, dtype=np.float64).sum():
            break
    return rounded


def grid_steps(weights: np.ndarray) -> np.ndarray | None:
    """Steps of which all weights are whole multiples already, or None: ternary and constant weights, and those that were trained on a grid.

    The step of a channel divides its smallest weight that is not zero; the largest such step is taken, of which no weight may be more than 127, equal up to float32 rounding.

    Args:
        weights: float32 `(num_channels, channel_elements)`.

    Returns:
        float32 `(num_channels,)`, 0 for a channel of zeros.
    """
    steps = np.zeros(len(weights), np.float32)
    for rows in [slice(0, 1), *blocks(weights.shape)]:  # the first channel alone tells nearly all weights apart
        magnitudes = np.abs(weights[rows])
        smallest = np.where(magnitudes > 0, magnitudes, np.inf).min(axis=1)
        if not np.isfinite(magnitudes).all():
            return None
        found, open_rows = np.zeros(len(magnitudes), np.float32), np.flatnonzero(np.isfinite(smallest))
        for divisor in range(1, MAX_ID + 1):
            candidates = (smallest[open_rows] / divisor).astype(np.float32)
            with np.errstate(all="ignore"):  # weights of all sizes in one channel: no grid
                multiples = magnitudes[open_rows] / candidates[:, None]
                nearest = np.rint(multiples)
                multiples -= nearest
            fits = (candidates >= _SMALLEST_STEP) & (nearest.max(axis=1, initial=0) <= MAX_ID) & (np.abs(multiples).max(axis=1, initial=0) <= _GRID_TOLERANCE)
            found[open_rows[fits]] = candidates[fits]
            open_rows = open_rows[~fits]
            if not len(open_rows):
                break
        if len(open_rows):
            return None
        steps[rows] = found
    return steps


def to_buckets(weights: np.ndarray, steps: np.ndarray, midrise: bool = False) -> np.ndarray:
    """Nearest bucket of every weight: int8 ids with `|w - step * value(id)| <= step / 2` up to one float32 rounding.

    Args:
        weights: float32 `(num_channels, channel_elements)`.
        steps: float32 `(num_channels,)`.
        midrise: buckets centred on odd multiples of `step / 2` instead of multiples of `step`.
    """
    ids = np.empty(weights.shape, np.int8)
    for rows in blocks(weights.shape):
        scaled = weights[rows] * _inverse(steps[rows])[:, None]
        if midrise:
            scaled -= np.float32(0.5)
        np.clip(np.rint(scaled, out=scaled), MIN_ID, MAX_ID, out=scaled)
        ids[rows] = scaled
    return ids


def dependent_steps(weights: np.ndarray, steps: np.ndarray) -> np.ndarray | None:
    """Scales, `coarse`, with which value kind `dependent` has the mean square error of uniform buckets of these steps, or None where it would not pay.

    It does not where a value would not fit an int8, where most ids are 0 anyway, as half of the states have no 0, and where weights were pruned, which must be 0 in every state.

    Args:
        weights: float32 `(num_channels, channel_elements)`.
        steps: float32 `(num_channels,)`.
    """
    fine = coarse(steps * np.float32(_DEPENDENT_STEP), weights.shape[1])
    if np.any(np.abs(weights).max(axis=1) > (2 * MAX_DEPENDENT_ID) * fine):
        return None
    zeros = sum(np.count_nonzero(to_buckets(weights[rows], steps[rows]) == 0) for rows in blocks(weights.shape))
    pruned = weights.size - np.count_nonzero(weights)
    return fine if zeros <= _MOST_ZEROS * weights.size and pruned <= _MOST_PRUNED * weights.size else None


def blocks(shape: tuple[int, int]) -> list[slice]:
    """Channels to work on at once, so that temporaries stay small beside the weights."""
    channels = max(1, _BLOCK_ELEMENTS // shape[1])
    return [slice(start, start + channels) for start in range(0, shape[0], channels)]


def _inverse(steps: np.ndarray) -> np.ndarray:
    return np.divide(1.0, steps, out=np.zeros(len(steps), np.float32), where=steps > 0, dtype=np.float32)


def binarize(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One bit per weight: signs as `midrise` ids -1 and 0, and scales `2 * mean|w|`, the least-squares magnitude.

    Source: XNOR-Net, arXiv:1603.05279, eq. 6; the remapping of Smart-DNN+ without residual.
    """
    return np.where(weights < 0, -1, 0).astype(np.int8), (2 * np.abs(weights).mean(axis=1)).astype(np.float32)
