"""Magnitude pruning: single weights, N out of every M, or blocks; which are zero is a mask that follows a schedule.

A weight that was pruned stays pruned while the sparsity rises: its magnitude counts as 0, as in tfmot. Source: Zhu and Gupta, arXiv:1710.01878; N:M: Mishra et al., arXiv:2104.08378.
"""

import dataclasses

import numpy as np
from keras import ops

from tflite_smart import schedules
from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.base import Layout, Method, VariableSpec, register


@register("prune")
@dataclasses.dataclass(frozen=True)
class Prune(Method):
    """Zeroes the weights of least magnitude.

    Attributes:
        sparsity: a schedule of `schedules` or tfmot's, or a number: that sparsity from the start.
        group: prunes the same part of every `group` consecutive inputs of a channel: 4 with sparsity .5 is 2:4. None compares all weights of the layer. Where the inputs
            do not divide by it, the last few stay.
        block: `(channels, inputs)` that are zeroed together; None in either place is all of them, so `(1, None)` prunes whole filters.

    Example:
        >>> Prune(0.5, group=4).get_config()["group"]
        4
    """

    sparsity: object
    group: int | None = None
    block: tuple[int | None, int | None] = (1, 1)

    def __post_init__(self):
        object.__setattr__(self, "sparsity", schedules.get(self.sparsity))
        if self.group is not None and (self.group < 2 or tuple(self.block) != (1, 1)):
            raise RecipeError(f"prune: group must be at least 2 and can't be combined with block. Received: group={self.group}, block={self.block}.")
        if len(self.block) != 2 or any(size is not None and size < 1 for size in self.block):
            raise RecipeError(f"prune: block must be two numbers of at least 1, or null for all. Received: block={self.block}.")

    def variables(self, layout):
        return {"mask": VariableSpec(layout.shape, "bool")}

    def initial(self, weight, layout):
        return {"mask": np.ones(layout.shape, bool)}

    def apply(self, weight, variables, layout):
        return ops.where(variables["mask"], weight, ops.zeros_like(weight))

    def update(self, weight, variables, layout, step):
        due, sparsity = self.sparsity(step - 1)  # schedules count from 0
        return {"mask": ops.cond(due, lambda: self._mask(self.apply(weight, variables, layout), layout, sparsity), lambda: ops.convert_to_tensor(variables["mask"]))}

    def _mask(self, weight, layout: Layout, sparsity):
        matrix = ops.abs(layout.to_matrix(weight))
        if self.group is not None:
            return layout.from_matrix(group_mask(matrix, self.group, sparsity))
        sizes = [size if wanted is None else min(wanted, size) for wanted, size in zip(self.block, layout.matrix_shape)]
        if sizes == [1, 1]:
            return magnitude_mask(ops.abs(weight), sparsity)
        return layout.from_matrix(block_mask(matrix, sizes, sparsity))


def magnitude_mask(magnitudes, sparsity):
    """Bools that are False for the `floor(sparsity * size)` smallest magnitudes (and their equals); any shape."""
    ordered = ops.sort(ops.reshape(magnitudes, (-1,)))
    count = ops.cast(ops.floor(sparsity * ordered.shape[0] + 1e-4), "int32")
    limit = ops.where(count > 0, ops.take(ordered, ops.maximum(count - 1, 0)), -1.0)
    return magnitudes > limit


def group_mask(magnitudes, group: int, sparsity):
    """In every `group` consecutive columns, False for the `floor(sparsity * group)` smallest; exactly so many, the later of equals first. `(rows, columns)`."""
    rows, columns = magnitudes.shape
    whole = columns - columns % group
    parts = ops.reshape(magnitudes[:, :whole], (rows, -1, group))
    rank = ops.argsort(ops.argsort(-parts, axis=-1), axis=-1)
    keep = rank < group - ops.cast(ops.floor(sparsity * group + 1e-4), rank.dtype)
    return ops.concatenate([ops.reshape(keep, (rows, whole)), ops.ones((rows, columns - whole), "bool")], axis=1)


def block_mask(magnitudes, sizes: list[int], sparsity):
    """`magnitude_mask` of the blocks' mean magnitude; blocks at the edges may be smaller. `(rows, columns)`."""
    rows, columns = magnitudes.shape
    counts = [-(-rows // sizes[0]), -(-columns // sizes[1])]
    padding = [(0, counts[0] * sizes[0] - rows), (0, counts[1] * sizes[1] - columns)]

    def sums(values):
        return ops.sum(ops.reshape(ops.pad(values, padding), (counts[0], sizes[0], counts[1], sizes[1])), axis=(1, 3))

    keep = magnitude_mask(sums(magnitudes) / sums(ops.ones_like(magnitudes)), sparsity)
    return ops.repeat(ops.repeat(keep, sizes[0], axis=0), sizes[1], axis=1)[:rows, :columns]
