"""What methods share that round every weight to a few values: a way from float to there, and gradients past the rounding."""

import dataclasses

import numpy as np
from keras import ops

from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.base import Finished, Method, VariableSpec, straight_through


@dataclasses.dataclass(frozen=True)
class Annealed(Method):
    """Base: subclasses implement `rounded(weight, layout)`.

    Attributes:
        anneal_steps: steps over which the effective weight goes from the float one to the rounded one, in a straight line; 0 rounds from the first step.
    """

    anneal_steps: int = 0

    def __post_init__(self):
        if self.anneal_steps < 0:
            raise RecipeError(f"{self.name}: anneal_steps must be at least 0. Received: anneal_steps={self.anneal_steps}.")

    def rounded(self, weight, layout):
        """The weight that inference will have, a tensor."""
        raise NotImplementedError

    def variables(self, layout):
        return {"progress": VariableSpec(())}

    def initial(self, weight, layout):
        return {"progress": np.float32(self.anneal_steps == 0)}

    def apply(self, weight, variables, layout):
        progress, rounded = variables["progress"], self.rounded(ops.stop_gradient(weight), layout)
        on_the_way = ops.stop_gradient(weight) * (1 - progress) + rounded * progress
        return straight_through(ops.stop_gradient(ops.where(progress < 1, on_the_way, rounded)), weight)

    def update(self, weight, variables, layout, step):
        return {"progress": ops.minimum(ops.cast(step, "float32") / max(self.anneal_steps, 1), 1.0)}

    def finish(self, weight, variables, layout):
        return Finished(ops.convert_to_numpy(self.rounded(ops.convert_to_tensor(weight), layout)))
