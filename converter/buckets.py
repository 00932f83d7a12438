"""From weights to bucket ids: sign remapping and error-bounded residual buckets (Smart-DNN+), binary, and plain integers.

Everything here is arrays in, arrays out. FORMAT.md, 1 explains why a sign remapped to a value on the bucket grid and the bucket of its residual are one id.
Source: Smart-DNN+, ACM TACO 2023, doi 10.1145/3617688.
"""

import numpy as np

from tflite_smart.converter.codecs.base import MAX_ID, MIN_ID

_SMALLEST_STEP = np.finfo(np.float32).tiny
_BLOCK_ELEMENTS = 1 << 21
_GRID_TOLERANCE = 127 * 4 * np.finfo(np.float32).eps  # a few roundings of a number of up to 127 steps


def bucket_steps(weights: np.ndarray, relative_error: float, channel_exponent: float = 1.0) -> np.ndarray:
    """Width 2e of the residual buckets of every output channel.

    Uniform rounding with step d has the mean square error d^2 / 12. The steps follow the channels' own size, `step[n] ~ rms[n] ** channel_exponent`, and are
    scaled so that the layer's error reaches `relative_error`. A channel with an outlier gets at least the step that keeps the outlier in an 8-bit id, so
    no weight is ever clipped.

    Args:
        weights: float32 `(num_channels, channel_elements)`.
        relative_error: rms of the error over rms of the weights, > 0.
        channel_exponent: 0 gives all channels one absolute bound, 1 one relative bound.

    Returns:
        float32 `(num_channels,)`; 0 for a channel of zeros.
    """
    power = np.einsum("nk,nk->n", weights, weights, dtype=np.float64) / weights.shape[1]
    shape = np.where(power > 0, np.power(np.maximum(power, 1e-300), channel_exponent / 2), 0.0)
    total, shaped = power.sum(), np.square(shape).sum()
    if total == 0:
        return np.zeros(len(weights), np.float32)
    steps = shape * relative_error * np.sqrt(12.0 * total / shaped)
    steps = np.maximum(steps, np.maximum(weights.max(axis=1), -weights.min(axis=1)) / np.float32(MAX_ID + 0.25)).astype(np.float32)
    return np.where(steps >= _SMALLEST_STEP, steps, 0).astype(np.float32)


def grid_steps(weights: np.ndarray) -> np.ndarray | None:
    """Steps of which all weights are whole multiples already, or None: ternary and constant weights, and those that were trained on a grid.

    The step of a channel divides its smallest weight that is not zero; the largest such step is taken, of which no weight may be more than 127, equal up to float32 rounding.

    Args:
        weights: float32 `(num_channels, channel_elements)`.

    Returns:
        float32 `(num_channels,)`, 0 for a channel of zeros.
    """
    steps = np.zeros(len(weights), np.float32)
    for rows in [slice(0, 1), *_blocks(weights.shape)]:  # the first channel alone tells nearly all weights apart
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
    for rows in _blocks(weights.shape):
        scaled = weights[rows] * _inverse(steps[rows])[:, None]
        if midrise:
            scaled -= np.float32(0.5)
        np.clip(np.rint(scaled, out=scaled), MIN_ID, MAX_ID, out=scaled)
        ids[rows] = scaled
    return ids


def balance(ids: np.ndarray, weights: np.ndarray, steps: np.ndarray, taps: int, midrise: bool = False) -> None:
    """Moves few ids to the neighbouring bucket so that the rounding errors of an output channel cancel where inputs are alike.

    The inputs of a layer are not independent noise: after a ReLU all are positive, and the inputs under the taps of one spatial filter are neighbours in an
    image. Against such inputs the *sum* of the errors counts, which plain rounding leaves as a random walk. So for every output and input channel
    the errors over the taps, plus what the previous input channels left over, are brought within half a step of 0, by moving the weights that lie nearest to the edge of
    their bucket, where it costs least. The error of a moved weight is at most one step. Needs no data.

    Args:
        ids: int8 `(num_channels, channel_elements)`, changed in place.
        weights, steps, midrise: as in `to_buckets`.
        taps: how many of the `k` belong to one input channel; `k` counts (tap, input channel). 1 balances each output channel as a whole.
    """
    num_groups = ids.shape[1] // taps if taps > 1 else 1
    for rows in _blocks(ids.shape):
        part = ids[rows].reshape(len(ids[rows]), -1, num_groups)
        error = (weights[rows] * _inverse(steps[rows])[:, None]).reshape(part.shape)
        error -= part
        error -= np.float32(0.5 if midrise else 0.0)
        carry = np.zeros(len(part), np.float32)
        for group in range(num_groups):
            total = error[:, :, group].sum(axis=1) + carry
            moves = np.rint(total).astype(np.int64)
            part[:, :, group] = _move(part[:, :, group], error[:, :, group], moves)
            carry = total - moves


def _move(ids: np.ndarray, error: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """`ids` with, in every row, the `moves` ids raised by one whose error is largest, or the `-moves` lowered whose error is smallest."""
    size = ids.shape[1]
    most = min(int(np.abs(moves).max(initial=0)), size)
    if most == 0:
        return ids
    moved = ids.astype(np.int16)
    every = np.arange(len(ids))[:, None]
    for sign in (1, -1):
        merit = -sign * error
        candidates = np.argpartition(merit, most - 1, axis=1)[:, :most]
        candidates = candidates[every, np.argsort(merit[every, candidates], axis=1, kind="stable")]
        rows, columns = np.nonzero(np.arange(most) < (sign * moves)[:, None])
        moved[rows, candidates[rows, columns]] += sign
    return np.clip(moved, MIN_ID, MAX_ID).astype(np.int8)


def _blocks(shape: tuple[int, int]) -> list[slice]:
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
