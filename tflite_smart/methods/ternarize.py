"""Ternary weights: -alpha, 0 and alpha, one alpha per channel. Source: Li et al., Ternary Weight Networks, arXiv:1605.04711."""

import dataclasses

from keras import ops

from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.annealing import Annealed
from tflite_smart.methods.base import register


@register("ternarize")
@dataclasses.dataclass(frozen=True)
class Ternarize(Annealed):
    """Zeroes small weights and gives the others one magnitude.

    Attributes:
        threshold: of the magnitude below which a weight is zero, over the channel's mean magnitude; .7 is nearly the least-squares choice for Gaussian weights. More is sparser.
    """

    threshold: float = 0.7

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.threshold < 10:
            raise RecipeError(f"ternarize: threshold must be a number in (0, 10). Received: threshold={self.threshold}.")

    def rounded(self, weight, layout):
        return ternary(weight, layout.inner_axes, self.threshold)


def ternary(weight, inner_axes: tuple[int, ...], threshold: float):
    """`sign(w) alpha` where `|w|` is above the threshold, else 0; alpha is the mean magnitude of those, which is least squares. A tensor."""
    magnitude = ops.abs(weight)
    limit = threshold * ops.mean(magnitude, axis=inner_axes, keepdims=True)
    kept = ops.cast(magnitude > limit, weight.dtype)
    alpha = ops.sum(magnitude * kept, axis=inner_axes, keepdims=True) / ops.maximum(ops.sum(kept, axis=inner_axes, keepdims=True), 1.0)
    return ops.sign(weight) * kept * alpha
