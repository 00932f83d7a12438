"""A term in the loss that makes weights compressible: `||w||_1 / ||w||_2`, whose critical points are ternary. Source: arXiv:1905.01044."""

import dataclasses

import numpy as np
from keras import ops

from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.base import Method, VariableSpec, register


@register("compressibility")
@dataclasses.dataclass(frozen=True)
class Compressibility(Method):
    """Adds `strength * ||w||_1 / (sqrt(n) ||w||_2)` to the loss; the weight itself passes as it is.

    The ratio knows no scale, so a batch normalisation can't make it small by shrinking all weights; divided by sqrt(n) it lies in (0, 1] for layers of any size, 1 where all magnitudes are equal.

    Attributes:
        strength: of the term, at the end of the ramp.
        ramp_steps: steps over which it grows from 0 in a straight line: from the start at full strength it would decide what a layer learns.
    """

    strength: float = 0.01
    ramp_steps: int = 0

    def __post_init__(self):
        if self.strength < 0 or self.ramp_steps < 0:
            raise RecipeError(f"compressibility: strength and ramp_steps must be at least 0. Received: strength={self.strength}, ramp_steps={self.ramp_steps}.")

    def variables(self, layout):
        return {"strength": VariableSpec(())}

    def initial(self, weight, layout):
        return {"strength": np.float32(0.0 if self.ramp_steps else self.strength)}

    def apply(self, weight, variables, layout):
        return weight

    def update(self, weight, variables, layout, step):
        return {"strength": self.strength * ops.minimum(ops.cast(step, "float32") / max(self.ramp_steps, 1), 1.0)}

    def loss(self, weight, variables, layout):
        return variables["strength"] * ratio(weight)


def ratio(weight):
    """`||w||_1 / (sqrt(n) ||w||_2)`, a scalar; 0 for zeros."""
    size = float(np.prod(weight.shape))
    return ops.sum(ops.abs(weight)) / (size**0.5 * ops.sqrt(ops.sum(ops.square(weight)) + 1e-30))
