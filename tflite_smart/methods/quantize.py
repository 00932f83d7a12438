"""Quantization-aware training of weights: 2 to 8 bits, symmetric, one scale per output channel.

Rounding commutes with a scale per channel: `q(g w) = g q(w)`. So whatever batch normalization multiplies a channel by when TFLite folds it into the weights, the folded weights lie on the same grid, times g, and
nothing of the folding has to be imitated while training. Source: Jacob et al., arXiv:1712.05877, sections 2.1 and 3; straight-through clipping: Choi et al., arXiv:1805.06085.
"""

import dataclasses

import numpy as np
from keras import ops

from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.base import Method, VariableSpec, register, straight_through

_SMALLEST = 1e-30
_RATIOS = np.geomspace(1.0, 0.15, 40)


@register("quantize")
@dataclasses.dataclass(frozen=True)
class Quantize(Method):
    """Weights `scale[n] * id` with whole ids in `[-m, m]`, `m = 2 ** (bits - 1) - 1`: 127 for 8 bits, 7 for 4, -1, 0 and 1 for 2.

    With 8 bits the scale is the channel's largest weight over 127, which TFLite's converter chooses as well. With fewer it starts at the least-squares optimum and follows the weights by one
    least-squares step after every step of the optimizer; what lies outside is clipped.

    Attributes:
        bits: 2 to 8.
    """

    bits: int = 4

    def __post_init__(self):
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 8:
            raise RecipeError(f"quantize: bits must be a whole number in 2..8. Received: bits={self.bits!r}.")

    @property
    def largest_id(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def variables(self, layout):
        return {"scale": VariableSpec(layout.scale_shape)}

    def initial(self, weight, layout):
        return {"scale": best_scale(weight, layout.inner_axes, self.largest_id, _RATIOS if self.bits < 8 else _RATIOS[:1])}

    def apply(self, weight, variables, layout):
        scale = variables["scale"]
        bound = scale * self.largest_id
        clipped = ops.clip(weight, -bound, bound)
        return straight_through(ops.stop_gradient(_ids(weight, scale, self.largest_id) * scale), clipped)

    def update(self, weight, variables, layout, step):
        if self.bits == 8:
            return {"scale": ops.max(ops.abs(weight), axis=layout.inner_axes, keepdims=True) / 127.0}
        ids = _ids(weight, variables["scale"], self.largest_id)
        power = ops.sum(ids * ids, axis=layout.inner_axes, keepdims=True)
        return {"scale": ops.where(power > 0, ops.sum(weight * ids, axis=layout.inner_axes, keepdims=True) / ops.maximum(power, 1.0), variables["scale"])}


def _ids(weight, scale, largest: int):
    """Whole numbers in float32; 0 in a channel of zeros, whose scale is 0."""
    return ops.clip(ops.round(weight / ops.maximum(scale, _SMALLEST)), -largest, largest)


def best_scale(weight: np.ndarray, axes: tuple[int, ...], largest_id: int, ratios: np.ndarray) -> np.ndarray:
    """The scale per channel with the least squared error out of `ratios * max|w| / largest_id`.

    Args:
        weight: float32.
        axes: those inside a channel; kept with size 1 in the result.
    """
    full = np.abs(weight).max(axis=axes, keepdims=True) / largest_id
    best, least = full, np.full(full.shape, np.inf)
    for ratio in ratios:
        scale = full * ratio
        error = np.square(weight - scale * np.clip(np.rint(weight / np.maximum(scale, _SMALLEST)), -largest_id, largest_id)).sum(axis=axes, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best.astype(np.float32)
