"""What coarser buckets save and cost in one weight: bits and error over a range of settings, counted on the weight itself.

The textbook's law, one bit for every 6 dB, holds for fine steps and weights of one size. Trained layers have faint channels, whose weights all fall into bucket 0 long before the
others', and outliers, which bound the step from below; on such layers the law is wrong by bits. And where steps are wider than most weights, error feedback keeps the layer's output
going: weights are then rounded to 0 or far up, with more bits and more noise than plain rounding has. That is counted on some channels that are rounded as they will be.
"""

import dataclasses

import numpy as np

from tflite_smart.converter import buckets, compress, feedback
from tflite_smart.converter.format import Quantized, to_matrix

# Relative errors to ask for: 1.7 dB apart, below 0.4 % finer than int8's. At 80 % a weight takes about a bit, and one in six is not 0.
_ASKED = np.geomspace(0.003, 2.4, 36)
_FED_BACK = range(22, 36, 2)  # of these, from 20 % on, where feedback changes bits and noise
_FINER = 8  # points between two of them, interpolated
_MOST_ELEMENTS, _MOST_FED_BACK = 1 << 16, 1 << 14  # of a large weight only some channels are counted


@dataclasses.dataclass(frozen=True)
class Curve:
    """Over `asked`, the relative errors to ask `TensorSettings` for: `bits` per weight, and `noise`, the error power over the weights'; from wide steps on what grows like the layer's output's."""

    asked: np.ndarray
    bits: np.ndarray
    noise: np.ndarray

    def noise_at(self, asked: float) -> float:
        return float(np.exp(np.interp(np.log(asked), np.log(self.asked), np.log(self.noise))))


def count(values: np.ndarray, axis: int, settings: compress.TensorSettings, factor: np.ndarray | None = None) -> Curve:
    """The curve of one float32 tensor. Bits are the order-0 entropy of its bucket ids.

    Args:
        settings: its own, but for the error.
        factor: as in `compress.compress_tensor`.
    """
    matrix = to_matrix(values, axis)
    midrise, channels = settings.buckets == "midrise", buckets.Channels.of(matrix)
    steps = [channels.steps(asked, settings.channel_exponent) for asked in _ASKED]
    some = _some(matrix, _MOST_ELEMENTS)
    points = [_plain(matrix[some], widths[some], midrise) for widths in steps]
    at = np.arange(len(_ASKED))
    bits, noise = np.array(points).T
    if settings.taps and not midrise:
        few, inputs = _some(matrix, _MOST_FED_BACK), compress.known_inputs(matrix.shape[1], settings.taps, factor)
        fed_back = [_fed_back(matrix[few], steps[index][few], settings.buckets, inputs) for index in _FED_BACK]
        more_bits, more_noise = np.array(fed_back).T
        first, coarse = _FED_BACK[0], at >= _FED_BACK[0]
        # Both continue the plain curve.
        bits[coarse] = np.interp(at[coarse], _FED_BACK, more_bits) * bits[first] / max(more_bits[0], 1e-6)
        noise[coarse] = np.exp(np.interp(at[coarse], _FED_BACK, np.log(more_noise / more_noise[0]))) * noise[first]
    finer = np.linspace(0, len(_ASKED) - 1, _FINER * (len(_ASKED) - 1) + 1)
    return Curve(np.exp(np.interp(finer, at, np.log(_ASKED))), np.interp(finer, at, bits), np.exp(np.interp(finer, at, np.log(noise))))


def _some(matrix: np.ndarray, most_elements: int) -> np.ndarray:
    """Indices of channels, evenly spread."""
    return np.unique(np.linspace(0, len(matrix) - 1, max(1, min(len(matrix), most_elements // matrix.shape[1]))).astype(int))


def _plain(part: np.ndarray, steps: np.ndarray, midrise: bool) -> tuple[float, float]:
    ids = buckets.to_buckets(part, steps, midrise)
    error = part - steps[:, None] * (ids + np.float32(0.5 if midrise else 0.0))
    power = max(float(np.square(part, dtype=np.float64).sum()), 1e-300)
    return compress.entropy(ids), max(float(np.square(error, dtype=np.float64).sum()) / power, 1e-12)


def _fed_back(part: np.ndarray, steps: np.ndarray, kind: str, inputs: feedback.Inputs) -> tuple[float, float]:
    """Bits, and the noise of the layer's output in no unit."""
    value_kind, scales = compress.grid(part, steps, kind)
    ids = feedback.round_ids(part, scales, inputs, value_kind)
    errors = part - Quantized(ids, value_kind, scales).values()
    return compress.entropy(ids), max(feedback.output_noise(errors, inputs), 1e-30)
