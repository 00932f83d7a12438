"""What weights already are before anything is rounded.

What training put in the weights survives conversion: values on a grid (quantization-aware training, ternary, binary) and clusters are found again in the values themselves, whatever folding a batch
normalisation did to the scale of each channel; where values alone do not tell (`W = Ce B`), the training hands over ids and bases, and only the scales are found.
"""

import dataclasses

import numpy as np

from tflite_smart.converter import buckets
from tflite_smart.converter.codecs import smartdeal
from tflite_smart.converter.codecs.base import MAX_ID, MIN_ID
from tflite_smart.converter.format import CODEBOOK_SIZE, Quantized

_TOLERANCE = 16 * np.finfo(np.float32).eps  # a few roundings, relative to the largest weight of the channel
_PROBED_ELEMENTS = 1 << 14
_MATCHED_VALUES = 6  # of a channel that are tried as each value of the codebook; the codebook has at least one of them


def recognise(weights: np.ndarray) -> Quantized | None:
    """The ids of weights that lie on a grid or in at most 256 clusters already, up to float32 rounding; None for all others.

    Args:
        weights: float32 `(num_channels, channel_elements)`, finite.
    """
    steps = buckets.grid_steps(weights)
    if steps is None:
        return find_clusters(weights)
    ids = buckets.to_buckets(weights, steps)
    if np.any(ids & 1 == 0):
        return Quantized(ids, "uniform", steps)
    return Quantized(ids >> 1, "midrise", 2 * steps)  # odd multiples alone: binary weights take one bit, not two


def find_clusters(weights: np.ndarray) -> Quantized | None:
    """Ids, codebook and scales of weights that are one of at most 256 values times a factor of their channel.

    The factors are what folding left behind and are not known. So channels are compared by the ratios of their values: the logarithms of the magnitudes of one channel must be those of the
    codebook, shifted. The codebook grows from the channel with the most values.
    """
    probe = weights[: max(1, _PROBED_ELEMENTS // weights.shape[1])]
    if len(np.unique(probe)) > min(CODEBOOK_SIZE * len(probe), probe.size // 2):
        return None
    distinct = [np.unique(row) for row in weights]
    if max(map(len, distinct)) > CODEBOOK_SIZE:
        return None
    book, factors = _Logarithms(), np.ones(len(weights))
    together = np.unique(np.concatenate(distinct))
    if len(together) < min(2 * max(map(len, distinct)), CODEBOOK_SIZE + 1):  # nothing was folded in: channels have the same values
        return _quantized(weights, together, factors)
    for channel in sorted(range(len(weights)), key=lambda n: -len(distinct[n])):
        nonzero = distinct[channel][distinct[channel] != 0]
        if len(nonzero):
            factors[channel] = book.add(nonzero)
        if book.size > CODEBOOK_SIZE:
            return None
    values = book.values()
    return _quantized(weights, np.unique(np.append(values, 0.0)) if np.any(weights == 0) else values, factors)


class _Logarithms:
    """The codebook while it grows: sorted logarithms of the magnitudes of its positive and of its negative values."""

    def __init__(self):
        self.sides = [np.zeros(0), np.zeros(0)]

    @property
    def size(self) -> int:
        return sum(map(len, self.sides))

    def add(self, values: np.ndarray) -> float:
        """Finds the factor, of either sign, between a channel's values and most of the book's, adds those that are missing, and returns it."""
        plain = [np.log(np.sort(values[values > 0].astype(np.float64))), np.log(np.sort(-values[values < 0].astype(np.float64)))]
        best = -1, 1, 0.0
        for sign in (1, -1):
            parts = plain[::sign]
            side = int(len(parts[1]) > len(parts[0]))
            some = parts[side][:: -max(1, len(parts[side]) // _MATCHED_VALUES)]
            shifts = np.append((self.sides[side][:, None] - some).reshape(-1), 0.0)
            hits = sum(_contains(known, part + shifts[:, None]).sum(axis=1) for known, part in zip(self.sides, parts))
            best = max(best, (int(hits.max()), sign, float(shifts[np.argmax(hits)])), key=lambda entry: entry[0])
        _, sign, shift = best
        for number, part in enumerate(plain[::sign]):
            missing = part[~_contains(self.sides[number], part + shift)] + shift
            self.sides[number] = np.sort(np.concatenate([self.sides[number], missing]))
        return sign * np.exp(-shift)

    def values(self) -> np.ndarray:
        return np.concatenate([-np.exp(self.sides[1][::-1]), np.exp(self.sides[0])])


def _contains(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which of `wanted` are in the sorted `known`, up to rounding."""
    if not len(known):
        return np.zeros(np.shape(wanted), bool)
    at = np.searchsorted(known, wanted)
    near = np.minimum(np.abs(known[np.minimum(at, len(known) - 1)] - wanted), np.abs(known[np.maximum(at - 1, 0)] - wanted))
    return near <= _TOLERANCE


def _quantized(weights: np.ndarray, values: np.ndarray, factors: np.ndarray) -> Quantized | None:
    """With the sorted values as codebook. Ids count from the value nearest to zero, so that ids are small where weights are."""
    if len(values) > CODEBOOK_SIZE:
        return None
    first = max(MIN_ID, min(-int(np.argmin(np.abs(values))), MAX_ID + 1 - len(values)))
    codebook = np.zeros(CODEBOOK_SIZE, np.float32)
    codebook[first - MIN_ID : first - MIN_ID + len(values)] = values
    ids = (np.searchsorted((values[1:] + values[:-1]) / 2, weights / factors[:, None]) + first).astype(np.int8)
    found = Quantized(ids, "codebook", factors.astype(np.float32), codebook)
    return found if _is_exact(found, weights) else None


def _is_exact(found: Quantized, weights: np.ndarray) -> bool:
    """Up to float32 rounding."""
    return bool(np.all(np.abs(found.values() - weights).max(axis=1) <= _TOLERANCE * np.abs(weights).max(axis=1)))


def with_scales(weights: np.ndarray, trained: Quantized) -> Quantized | None:
    """What a training handed over, with the scales that these weights have by now; None where the weights are not what it made.

    Args:
        weights: float32 `(num_channels, channel_elements)`, the trained ones but for a factor per channel.
        trained: whose scales are not looked at.
    """
    if trained.ids.shape != weights.shape:
        return None
    shape = dataclasses.replace(trained, scales=np.ones(len(weights), np.float32)).values().astype(np.float64)
    power = np.square(shape).sum(axis=1)
    scales = np.divide((weights * shape).sum(axis=1), power, out=np.zeros(len(weights)), where=power > 0).astype(np.float32)
    found = dataclasses.replace(trained, scales=scales)
    return found if _is_exact(found, weights) else None


def from_parts(parts: dict[str, np.ndarray]) -> Quantized:
    """What `tflite_smart.methods.smartdeal` hands over: `coefficients` int8 `(num_channels, K)`, `basis` int8 `(num_slices, S, S, num_channels)`, `grouping` of three numbers. Without scales."""
    return Quantized(parts["coefficients"], "smartdeal", basis=smartdeal.Basis(*map(int, parts["grouping"]), parts["basis"]))
