"""SmartDeal: weights as sparse powers of two times small bases, `W = Ce B`, while they train.

READ FIRST. The mathematics of the decomposition, its groups, slices and limits are those of `converter/smartdeal.py` and FORMAT.md, 1; here it is written in the backend's operations. Two ways to train:

* `SmartDeal` trains W. Each forward pass takes W to coefficients, `Ce = W B^-1`, rounds those to powers of two and multiplies B back; gradients pass straight through, and the bases are fitted
  again every `fit_steps`. With `project_steps` W trains freely instead and is replaced by its decomposition every so many steps: the published train / project cycles.
* `SmartDealCoefficients` trains Ce and B themselves, the published training variant. B follows the optimizer. A coefficient is a power of two and can't follow small steps, so a counter adds up their
  signs (the "bucket switch"); when it reaches the bar, the coefficient moves by one exponent, or a zero becomes the smallest power of two.

Zeros stay zero where whole groups, channels or kernels are: a basis mixes the weights of a group. Both hand `coefficients` and `basis` to the converter, which stores them exactly.

Source: arXiv:2101.01163 and its code; arXiv:2005.03403.
"""

import dataclasses

import numpy as np
from keras import ops

from tflite_smart.converter import smartdeal
from tflite_smart.converter.codecs.smartdeal import Basis, coefficients, num_slices, rebuild
from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.base import Finished, Layout, Method, VariableSpec, register, straight_through

_RIDGE = 1e-4
_LARGEST = 2.0 ** (smartdeal.EXPONENTS - 1)
_FIRST_FITS = 4  # the error falls by less than 5 % after that
_SWEEPS, _TINY = 2, 1e-30
_ALMOST = 0.95  # what was projected once must not fall below a threshold that follows the weights' size


def grouping(layout: Layout) -> tuple[int, int, int]:
    """`group_size`, `group_stride`, `slice_groups`: lines of taps for convolutions, neighbours for the rest."""
    inner = tuple(layout.shape[axis] for axis in layout.inner_axes)
    taps = len(layout.spatial_axes)
    return smartdeal.grouping((1, *inner) if taps == 1 else inner, spatial=taps in (1, 2))


def slices_shape(layout: Layout) -> tuple[int, int, int, int]:
    """`(channels, slices, rows, S)`, the last slice filled up with zeros."""
    size, _, rows = grouping(layout)
    channels, elements = layout.matrix_shape
    return channels, num_slices(elements, size, rows), rows, size


def to_slices(weight, layout: Layout):
    """A weight tensor as `slices_shape`: a row is a group, whose elements a basis mixes."""
    channels, slices, rows, size = slices_shape(layout)
    stride, elements = grouping(layout)[1], layout.matrix_shape[1]
    matrix = ops.pad(layout.to_matrix(weight), [(0, 0), (0, -elements % size)])
    groups = ops.reshape(ops.transpose(ops.reshape(matrix, (channels, -1, size, stride)), (0, 1, 3, 2)), (channels, -1, size))
    return ops.reshape(ops.pad(groups, [(0, 0), (0, slices * rows - groups.shape[1]), (0, 0)]), (channels, slices, rows, size))


def from_slices(values, layout: Layout):
    """Inverse of `to_slices`."""
    channels, _, _, size = slices_shape(layout)
    stride, elements = grouping(layout)[1], layout.matrix_shape[1]
    groups = ops.reshape(values, (channels, -1, size))[:, : -(-elements // size)]
    blocks = ops.transpose(ops.reshape(groups, (channels, -1, stride, size)), (0, 1, 3, 2))
    return layout.from_matrix(ops.reshape(blocks, (channels, -1))[:, :elements])


def present(layout: Layout) -> np.ndarray:
    """Which elements of `to_slices` are weights, bool `(slices, rows, S)`: a group that is cut short has fewer coefficients too."""
    _, slices, rows, size = slices_shape(layout)
    return (np.arange(slices * rows * size) < layout.matrix_shape[1]).reshape(slices, rows, size)


def powers_of_two(values, least):
    """The nearest of 1, 2, ... 64 with the sign, or 0 where that, or the value, is below `least`. A tensor."""
    size = ops.abs(values)
    exponent = ops.clip(ops.floor(ops.log2(ops.maximum(size, 1e-6) * (4 / 3))), 0, smartdeal.EXPONENTS - 1)
    power = ops.power(2.0, exponent)
    return ops.where(ops.minimum(size, power) >= _ALMOST * least, ops.sign(values) * power, ops.zeros_like(size))


def best_powers(rows, basis, inverse, least, exists):
    """Coefficients that make `powers @ basis` close to `rows`: those of `rows @ inverse` rounded, then every one in turn to the best value that it can have beside the others, twice.

    Rounding alone is far from the best where bases are not orthogonal, and bases that are fitted to it lead further away: after eight fits the error was twice as large as after one.
    What was projected once stays as it is.

    Args:
        least: magnitudes below it become zero, `(channels, slices, 1, S)`.
        exists: which elements are weights, see `present`; the rest is 0 and may become anything.
    """
    rounded = ops.where(exists, powers_of_two(ops.einsum("csrk,cskj->csrj", rows, inverse), least), 0.0)
    wanted = ops.einsum("csrk,csjk->csrj", ops.where(exists, rows, ops.einsum("csrj,csjk->csrk", rounded, basis)), basis)
    gram, size = ops.einsum("csij,cskj->csik", basis, basis), basis.shape[-1]

    def improved(turn, powers):
        one = ops.one_hot(turn % size, size)
        beside = ops.sum(gram * one, axis=-1)[:, :, None]  # the products of all rows of a basis with this one
        energy = ops.maximum(ops.sum(beside * one, axis=-1), _TINY)
        target = ops.sum(wanted * one - powers * beside * (1 - one), axis=-1) / energy
        best = powers_of_two(target, ops.sum(least * one, axis=-1))
        return ops.where(ops.logical_and(exists, one > 0), best[..., None], powers)

    return ops.fori_loop(0, size * _SWEEPS, improved, rounded)  # traced once, not once a coefficient


def units(rows, basis):
    """What a coefficient of 1 adds to the weights, in units of which their root mean square is `START`: `(channels, slices, 1, S)`, one for each row of the bases."""
    power = ops.mean(ops.square(rows), axis=(1, 2, 3))[:, None, None, None]
    return smartdeal.START * ops.sqrt(ops.sum(ops.square(basis), axis=-1)[:, :, None] / ops.maximum(power, _TINY))


def whole_basis(basis):
    """Bases `(channels, slices, S, S)` as whole numbers up to 127 and a step per channel `(channels, 1, 1, 1)`. Tensors."""
    largest = ops.max(ops.abs(basis), axis=(1, 2, 3), keepdims=True)
    step = ops.where(largest > 0, largest / 127.0, ops.ones_like(largest))
    return ops.round(basis / step), step


def fit_basis(rows, powers, previous):
    """Bases that bring `powers @ basis` closest to `rows`, `converter.smartdeal`'s least squares for inputs with a mean, rounded to 8 bits. Tensors `(channels, slices, ...)`."""
    sums, wanted_sums = ops.sum(powers, axis=2), ops.sum(rows, axis=2)
    gram = ops.einsum("csri,csrj->csij", powers, powers) + ops.einsum("csi,csj->csij", sums, sums)
    wanted = ops.einsum("csri,csrj->csij", powers, rows) + ops.einsum("csi,csj->csij", sums, wanted_sums)
    ridge = _RIDGE * ops.einsum("csii->cs", gram)[..., None, None] + 1e-6
    whole, step = whole_basis(ops.solve(gram + ridge * ops.eye(gram.shape[-1]), wanted + ridge * previous))
    return whole * step


def pseudo_inverse(basis):
    """`B^T (B B^T + little)^-1`, so that `W B^-1` stays finite where a basis lost a direction."""
    gram = ops.einsum("csij,cskj->csik", basis, basis)
    ridge = _RIDGE * _RIDGE * ops.einsum("csii->cs", gram)[..., None, None] + 1e-30
    return ops.einsum("csji,csjk->csik", basis, ops.solve(gram + ridge * ops.eye(gram.shape[-1]), ops.broadcast_to(ops.eye(gram.shape[-1]), gram.shape)))


def finished(powers: np.ndarray, basis: np.ndarray, layout: Layout) -> Finished:
    """From coefficients `slices_shape` and bases `(channels, slices, S, S)`, arrays."""
    whole, step = (ops.convert_to_numpy(value) for value in whole_basis(ops.convert_to_tensor(basis)))
    exponents = np.where(powers != 0, np.log2(np.maximum(np.abs(powers), 1)) + 1, 0)
    slots = ops.convert_to_numpy(layout.to_matrix(from_slices(ops.convert_to_tensor((np.sign(powers) * np.rint(exponents)).astype(np.float32)), layout)))
    ids, parts = slots.astype(np.int8), Basis(*grouping(layout), np.moveaxis(whole, 0, -1).astype(np.int8))
    weight = step[:, 0, 0] * rebuild(ids, parts)
    return Finished(ops.convert_to_numpy(layout.from_matrix(weight)), {"coefficients": ids, "basis": parts.values, "grouping": np.array(grouping(layout))})


@register("smartdeal")
@dataclasses.dataclass(frozen=True)
class SmartDeal(Method):
    """Trains W, computes with `Ce B`.

    Attributes:
        threshold: what a coefficient must add to the weights so as not to become zero, in sixteenths of their root mean square. Higher is sparser and smaller.
        group_threshold: groups whose coefficients add less in all become zero as a whole (vector-wise sparsity).
        fit_steps: steps from one fit of the bases to the next; the first comes before all training.
        project_steps: 0 computes with the decomposition always; else W trains freely and is replaced by its decomposition every so many steps. That needs this method to be the weight's first.
    """

    threshold: float = 4.0
    group_threshold: float = 0.0
    fit_steps: int = 100
    project_steps: int = 0

    has_integer_form = False

    def __post_init__(self):
        if not 0 < self.threshold <= _LARGEST or self.group_threshold < 0:
            raise RecipeError(f"smartdeal: threshold must be in (0, 64] and group_threshold at least 0. Received: threshold={self.threshold}, group_threshold={self.group_threshold}.")
        if self.fit_steps < 1 or self.project_steps < 0:
            raise RecipeError(f"smartdeal: fit_steps must be at least 1 and project_steps at least 0. Received: fit_steps={self.fit_steps}, project_steps={self.project_steps}.")

    def variables(self, layout):
        channels, slices, _, size = slices_shape(layout)
        return {name: VariableSpec((channels, slices, size, size)) for name in ("basis", "inverse")}

    def initial(self, weight, layout):
        """Fitted a few times, beginning with identities of the channels' size."""
        rows = to_slices(ops.convert_to_tensor(weight), layout)
        unit = ops.sqrt(ops.mean(ops.square(rows), axis=(1, 2, 3)))[:, None, None, None] / smartdeal.START
        basis = ops.broadcast_to(ops.where(unit > 0, unit, 1.0) * ops.eye(rows.shape[-1]), self.variables(layout)["basis"].shape)
        for _ in range(_FIRST_FITS):
            basis = fit_basis(rows, self._powers(rows, basis, pseudo_inverse(basis), layout), basis)
        return {"basis": ops.convert_to_numpy(basis), "inverse": ops.convert_to_numpy(pseudo_inverse(basis))}

    def apply(self, weight, variables, layout):
        if self.project_steps:
            return weight
        return straight_through(ops.stop_gradient(self._projected(weight, variables, layout)), weight)

    def update(self, weight, variables, layout, step):
        rows = to_slices(weight, layout)

        def fitted():
            basis = fit_basis(rows, self._powers(rows, variables["basis"], variables["inverse"], layout), variables["basis"])
            return basis, pseudo_inverse(basis)

        kept = variables["basis"] + 0.0, variables["inverse"] + 0.0
        basis, inverse = ops.cond(ops.equal(step % self.fit_steps, 0), fitted, lambda: kept)
        changed = {"basis": basis, "inverse": inverse}
        if self.project_steps:
            due = ops.equal(step % self.project_steps, 0)
            changed["weight"] = ops.cond(due, lambda: self._projected(weight, changed, layout), lambda: weight + 0.0)
        return changed

    def finish(self, weight, variables, layout):
        basis, inverse = (ops.convert_to_tensor(variables[name]) for name in ("basis", "inverse"))
        powers = self._powers(to_slices(ops.convert_to_tensor(weight), layout), basis, inverse, layout)
        return finished(ops.convert_to_numpy(powers), variables["basis"], layout)

    def _powers(self, rows, basis, inverse, layout):
        size = ops.maximum(units(rows, basis), _TINY)
        powers = best_powers(rows, basis, inverse, self.threshold / size, present(layout))
        return ops.where(ops.sum(ops.abs(powers) * size, axis=-1, keepdims=True) >= _ALMOST * self.group_threshold, powers, 0.0)

    def _projected(self, weight, variables, layout):
        """In whole numbers and one rounding, as the decoder does."""
        whole, step = whole_basis(variables["basis"])
        powers = self._powers(to_slices(weight, layout), variables["basis"], variables["inverse"], layout)
        return from_slices(ops.einsum("csrj,csjk->csrk", powers, whole) * step, layout)


@register("smartdeal_coefficients")
@dataclasses.dataclass(frozen=True)
class SmartDealCoefficients(Method):
    """Trains Ce and B in place of the weight, from the decomposition that they begin with. B is kept in units in which the coefficients are about 1, so that it learns at the pace of weights.

    Attributes:
        bar: how many steps more in one direction than in the other move a coefficient by one exponent.
        penalty: of the first decomposition, see `converter.smartdeal.decompose`: more is sparser. Groups that it zeroes stay zero.
    """

    bar: int = 50
    penalty: float = 0.02

    trains_weight = has_integer_form = False

    def __post_init__(self):
        if self.bar < 1 or self.penalty < 0:
            raise RecipeError(f"smartdeal_coefficients: bar must be at least 1 and penalty at least 0. Received: bar={self.bar}, penalty={self.penalty}.")

    def variables(self, layout):
        shape = slices_shape(layout)
        return {
            "coefficients": VariableSpec(shape, trainable=True), "basis": VariableSpec((*shape[:2], shape[3], shape[3]), trainable=True),
            "settled": VariableSpec(shape), "counter": VariableSpec(shape), "mask": VariableSpec(shape, "bool"),
        }  # fmt: skip

    def initial(self, weight, layout):
        matrix = ops.convert_to_numpy(layout.to_matrix(weight)).astype(np.float32)
        fitted = smartdeal.decompose(matrix, grouping(layout), self.penalty)
        powers = ops.convert_to_numpy(to_slices(layout.from_matrix(coefficients(fitted.ids)), layout))
        basis = np.moveaxis(fitted.basis.values, -1, 0) * fitted.scales[:, None, None, None]
        return {"coefficients": powers, "settled": powers, "basis": (basis * smartdeal.START).astype(np.float32), "counter": np.zeros_like(powers), "mask": np.any(powers != 0, axis=-1, keepdims=True) & present(layout)}

    def apply(self, weight, variables, layout):
        basis = variables["basis"] / smartdeal.START
        whole, step = (ops.stop_gradient(value) for value in whole_basis(basis))
        powers = ops.where(variables["mask"], variables["coefficients"], 0.0)
        exact = ops.einsum("csrj,csjk->csrk", ops.stop_gradient(powers), whole) * step
        smooth = ops.einsum("csrj,csjk->csrk", powers, basis + ops.stop_gradient(whole * step - basis))
        return from_slices(straight_through(exact, smooth), layout)

    def update(self, weight, variables, layout, step):
        powers, counter = switch(variables["settled"], variables["coefficients"], variables["counter"], self.bar)
        powers = ops.where(variables["mask"], powers, 0.0)
        return {"coefficients": powers, "settled": powers, "counter": counter}

    def finish(self, weight, variables, layout):
        return finished(np.where(variables["mask"], variables["settled"], 0), variables["basis"] / np.float32(smartdeal.START), layout)


def switch(settled, moved, counter, bar: int):
    """The bucket switch: where the optimizer moved a coefficient to counts one step in that direction; at the bar the coefficient takes the next power of two that way.

    A zero becomes +-1; a smallest power that is pushed to zero becomes zero.
    Args:
        settled: powers of two and zeros before the optimizer's step; moved: what it made of them; counter: of the steps so far.
    Returns:
        New powers and counters.
    """
    counter = counter + ops.sign(moved - settled)
    direction = ops.where(ops.abs(counter) >= bar, ops.sign(counter), 0.0)
    outwards = direction * ops.sign(settled)
    grown = ops.sign(settled) * ops.minimum(ops.abs(settled) * 2, _LARGEST)
    shrunk = ops.where(ops.abs(settled) > 1, settled / 2, 0.0)
    powers = ops.where(settled == 0, direction, ops.where(outwards > 0, grown, ops.where(outwards < 0, shrunk, settled)))
    return powers, ops.where(direction != 0, 0.0, counter)
