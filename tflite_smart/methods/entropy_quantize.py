"""Quantization for an entropy coder: wide steps and a dead zone in place of few bits.

The file pays the entropy of the ids, not their width. At about one bit per weight the best grid has steps wider than the weights' standard deviation and sends most of them to 0, but lets the few
large ones be 2 or 3 steps: at equal entropy that is half the error of pruning and then rounding what is left finely. Source: entropy-constrained scalar quantization, Sullivan,
IEEE Trans. Information Theory 42(5), 1996, where the dead zone is nearly the optimum for Laplacian values.
"""

import dataclasses

import numpy as np
from keras import ops

from tflite_smart.converter import buckets
from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.base import Method, VariableSpec, register, straight_through

LARGEST_ID = 63


@register("entropy_quantize")
@dataclasses.dataclass(frozen=True)
class EntropyQuantize(Method):
    """Weights `scale[n] * id`. Ids count steps that are equally wide for the whole layer, so channels with large weights get more bits; the scale of each channel follows its weights by least squares.

    Attributes:
        step: width, over the root mean square of the layer's weights when it is wrapped. 1 gives about 2 bits per Gaussian weight, 2 about 1, 3 about .5.
        dead_zone: magnitude in steps below which a weight is 0, .5 (nearest) to 1. More is smaller.
        keep_grid: weights that lie on a grid already, see `tflite_smart.project`, keep it: each channel's own width, and at first every id. All weights then begin
            in the middle of a step, and ids change when a weight has moved by half of one, which few do in a short training: `tflite_smart.loosen` puts them where they change. `step` is for
            those on no grid.

    Example:
        >>> EntropyQuantize(2.0).get_config()
        {'name': 'entropy_quantize', 'step': 2.0, 'dead_zone': 0.58, 'keep_grid': False}
    """

    step: float = 1.5
    dead_zone: float = 0.58
    keep_grid: bool = False

    def __post_init__(self):
        if not 0.01 <= self.step <= 10 or not 0.5 <= self.dead_zone <= 1:
            raise RecipeError(f"entropy_quantize: step must be in [0.01, 10] and dead_zone in [0.5, 1]. Received: step={self.step}, dead_zone={self.dead_zone}.")

    def variables(self, layout):
        return {name: VariableSpec(layout.scale_shape) for name in ("width", "scale")}

    def initial(self, weight, layout):
        width = self._widths(weight, layout)
        return {"width": width, "scale": ops.convert_to_numpy(self._fitted(ops.convert_to_tensor(weight), width, width, layout))}

    def _widths(self, weight, layout) -> np.ndarray:
        """float32, `scale_shape`; above 0 for channels of zeros, too, which may come back."""
        same = np.full(layout.scale_shape, self.step * max(np.sqrt(np.square(weight, dtype=np.float64).mean()), 1e-30), np.float32)
        found = buckets.grid_steps(ops.convert_to_numpy(layout.to_matrix(weight))) if self.keep_grid else None
        if found is None or not found.any():
            return same
        return np.where(found > 0, found, np.median(found[found > 0])).astype(np.float32).reshape(layout.scale_shape)

    def apply(self, weight, variables, layout):
        return straight_through(ops.stop_gradient(dead_zone_ids(weight, variables["width"], self.dead_zone) * variables["scale"]), weight)

    def update(self, weight, variables, layout, step):
        return {"scale": self._fitted(weight, variables["width"], variables["scale"], layout)}

    def _fitted(self, weight, width, scale, layout):
        """Least-squares scales of the channels; those of channels without ids stay."""
        ids = dead_zone_ids(weight, width, self.dead_zone)
        power = ops.sum(ids * ids, axis=layout.inner_axes, keepdims=True)
        return ops.where(power > 0, ops.sum(weight * ids, axis=layout.inner_axes, keepdims=True) / ops.maximum(power, 1.0), scale)


def dead_zone_ids(weight, width, dead_zone: float):
    """`sign(w) floor(|w| / width + 1 - dead_zone)` up to `LARGEST_ID`, whole numbers in float32. A tensor."""
    return ops.sign(weight) * ops.minimum(ops.floor(ops.abs(weight) / width + (1 - dead_zone)), float(LARGEST_ID))
