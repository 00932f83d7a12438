"""Rounding with error feedback: what one weight's rounding does to the layer's output is made up for by the weights that are still to come.

Plain rounding minimises the error of the weights; what counts is that of the layer's output, `E H E^T` with H the second moment of the layer's inputs. Rounding the columns in order and
spreading each error over the columns not yet rounded is the optimal greedy answer (optimal brain surgeon); with the Cholesky factor of H's inverse it costs one triangular
product. Source: GPTQ, arXiv:2210.17323, algorithm 1; Hassibi and Stork 1993.
"""

import numpy as np

from tflite_smart.converter.codecs.base import MAX_ID, MIN_ID

# Relative to the mean of H's diagonal: inputs that never occurred in the calibration data still keep their weights near where they were.
_DAMPING = 0.02
_BLOCK = 64


def feedback_factor(second_moment: np.ndarray) -> np.ndarray:
    """Upper triangular U with `U^T U = (H + damping)^-1`, float32 `(k, k)`.

    Args:
        second_moment: H, `(k, k)`, the mean of x x^T over the layer's inputs x.
    """
    damped = second_moment.astype(np.float64)
    mean = np.trace(damped) / len(damped)
    damped[np.diag_indices_from(damped)] += _DAMPING * mean if mean > 0 else 1.0
    return np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)


def round_with_feedback(weights: np.ndarray, steps: np.ndarray, factor: np.ndarray, midrise: bool = False) -> np.ndarray:
    """Bucket ids int8 `(num_channels, k)` that keep the layer's output close, not each weight.

    Args:
        weights: float32 `(num_channels, k)`.
        steps: float32 `(num_channels,)`, bucket widths.
        factor: of `feedback_factor`.
        midrise: as in `buckets.to_buckets`.
    """
    offset = np.float32(0.5 if midrise else 0.0)
    inverse = np.divide(1.0, steps, out=np.zeros(len(steps), np.float32), where=steps > 0, dtype=np.float32)
    rest = weights * inverse[:, None]  # in steps; every channel's feedback is its own, so the scale drops out
    ids = np.empty(weights.shape, np.int8)
    size = weights.shape[1]
    for start in range(0, size, _BLOCK):
        end = min(size, start + _BLOCK)
        errors = np.empty((len(weights), end - start), np.float32)
        for k in range(start, end):
            rounded = np.clip(np.rint(rest[:, k] - offset), MIN_ID, MAX_ID)
            ids[:, k] = rounded
            error = (rest[:, k] - offset - rounded) / factor[k, k]
            rest[:, k + 1 : end] -= error[:, None] * factor[k, k + 1 : end]
            errors[:, k - start] = error
        rest[:, end:] -= errors @ factor[start:end, end:]
    return ids
