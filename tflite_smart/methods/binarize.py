"""Binary weights, one scale per channel, with residual buckets if one bit is too few.

`w' = sign(w) alpha`, alpha the mean magnitude of the channel: the least-squares choice (XNOR-Net, arXiv:1603.05279, eq. 6). Smart-DNN+ (doi:10.1145/3617688) stores the residual `w - sign(w) alpha` in
buckets; with alpha a whole number of buckets, sign and residual are one id on one grid (converter/FORMAT.md, 1), which conversion finds again.
"""

import dataclasses

from keras import ops

from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.annealing import Annealed
from tflite_smart.methods.base import register


@register("binarize")
@dataclasses.dataclass(frozen=True)
class Binarize(Annealed):
    """Signs times a magnitude. Zeros stay zero.

    Attributes:
        residual_buckets: on either side of +-alpha, `alpha / (residual_buckets + 1)` wide; 0 is binary, 1 has the magnitudes 1/2, 1 and 3/2 of alpha.

    Example:
        >>> Binarize(residual_buckets=1).get_config()
        {'name': 'binarize', 'anneal_steps': 0, 'residual_buckets': 1}
    """

    residual_buckets: int = 0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.residual_buckets <= 62:
            raise RecipeError(f"binarize: residual_buckets must be 0..62. Received: residual_buckets={self.residual_buckets}.")

    def rounded(self, weight, layout):
        return binary(weight, layout.inner_axes, self.residual_buckets)


def binary(weight, inner_axes: tuple[int, ...], residual_buckets: int = 0):
    """`sign(w) (alpha + bucket of |w| - alpha)`, a tensor.

    Args:
        inner_axes: what alpha is the mean over.
        residual_buckets: outermost bucket on either side.
    """
    magnitude = ops.abs(weight)
    alpha = ops.mean(magnitude, axis=inner_axes, keepdims=True)
    width = alpha / (residual_buckets + 1)
    bucket = ops.round((magnitude - alpha) / ops.maximum(width, 1e-30))
    return ops.sign(weight) * (residual_buckets + 1 + ops.clip(bucket, -residual_buckets, residual_buckets)) * width
