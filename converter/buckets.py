"""From weights to bucket ids: sign remapping and error-bounded residual buckets (Smart-DNN+), binary, and plain integers.

Everything here is arrays in, arrays out. FORMAT.md, 1 explains why a sign remapped to a value on the bucket grid and the bucket of its residual are one id.
Source: Smart-DNN+, ACM TACO 2023, doi 10.1145/3617688.
"""

import numpy as np

from tflite_smart.converter.codecs.base import MAX_ID, MIN_ID

_SMALLEST_STEP = np.finfo(np.float32).tiny


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
    steps = np.maximum(steps, np.abs(weights).max(axis=1) / (MAX_ID + 0.25)).astype(np.float32)
    return np.where(steps >= _SMALLEST_STEP, steps, 0).astype(np.float32)


def to_buckets(weights: np.ndarray, steps: np.ndarray, midrise: bool = False) -> np.ndarray:
    """Nearest bucket of every weight: int8 ids with `|w - step * value(id)| <= step / 2` up to one float32 rounding.

    Args:
        weights: float32 `(num_channels, channel_elements)`.
        steps: float32 `(num_channels,)`.
        midrise: buckets centred on odd multiples of `step / 2` instead of multiples of `step`.
    """
    inverse = np.divide(1.0, steps, out=np.zeros(len(steps), np.float32), where=steps > 0, dtype=np.float32)
    scaled = weights * inverse[:, None]
    if midrise:
        scaled -= np.float32(0.5)
    return np.clip(np.rint(scaled, out=scaled), MIN_ID, MAX_ID).astype(np.int8)


def binarize(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One bit per weight: signs as `midrise` ids -1 and 0, and scales `2 * mean|w|`, the least-squares magnitude.

    Source: XNOR-Net, arXiv:1603.05279, eq. 6; the remapping of Smart-DNN+ without residual.
    """
    return np.where(weights < 0, -1, 0).astype(np.int8), (2 * np.abs(weights).mean(axis=1)).astype(np.float32)
