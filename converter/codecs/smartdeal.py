"""`smartdeal`: coefficients and basis (FORMAT.md, 1). The ids of this value kind are powers of two; small bases mix groups of them to weights.

READ FIRST. SmartDeal writes a weight matrix as `W = Ce B`: Ce holds 0 and signed powers of two, B is small and 8-bit, so that a weight is rebuilt with shifts and adds. Three
observations make it fit everything else here:

* B is square, so Ce has the shape of W: a coefficient takes the place of a weight, and order, tiles and codecs stay what they are;
* a basis belongs to one output channel, so the 32 lanes of a row never meet: rebuilding is the same few multiplications in every lane;
* the coefficients are at most 2^14 and the basis is int8: every weight is a whole number that float32 holds exactly, so no instruction set and no order of additions can differ.

Source: arXiv:2101.01163 and arXiv:2005.03403. What makes the coefficients and bases is `converter/smartdeal.py`.
"""

import dataclasses
import math

import numpy as np

MAX_GROUP = 8
MAX_EXPONENT = 14
MAX_PIECE = 2048  # k that a decoder must be able to hold of one panel
_ROW = 32


@dataclasses.dataclass(frozen=True)
class Basis:
    """Which coefficients make which weights, and the numbers to do it with.

    Attributes:
        group_size: S, coefficients and weights of a group, 1..8.
        group_stride: D, how far apart in k they lie. D > 1 needs S * D to divide K.
        slice_groups: consecutive groups of a channel that share a basis.
        values: int8 `(num_slices, S, S, num_channels)`: [slice, coefficient, weight, channel].
    """

    group_size: int
    group_stride: int
    slice_groups: int
    values: np.ndarray


def num_groups(channel_elements: int, group_size: int) -> int:
    """Groups of a channel; the last may be cut short."""
    return -(-channel_elements // group_size)


def num_slices(channel_elements: int, group_size: int, slice_groups: int) -> int:
    return -(-num_groups(channel_elements, group_size) // slice_groups)


def piece(channel_elements: int, group_size: int, group_stride: int) -> int:
    """How many k a decoder must take at once, or a multiple of them: whole groups and, in a panel of any width, whole rows."""
    return min(channel_elements, math.lcm(_ROW, group_size * group_stride))


def coefficients(ids: np.ndarray) -> np.ndarray:
    """0 for id 0, else `sign(id) * 2 ** (min(|id|, 15) - 1)`: float32, of the same shape."""
    exponent = np.minimum(np.abs(ids.astype(np.int32)) - 1, MAX_EXPONENT)
    return np.sign(ids).astype(np.float32) * np.exp2(exponent).astype(np.float32)


def groups(matrix: np.ndarray, group_size: int, group_stride: int) -> np.ndarray:
    """`(num_channels, K)` as `(num_channels, num_groups, S)`; a group that is cut short is filled up with zeros. A copy."""
    channels, elements = matrix.shape
    padded = np.zeros((channels, num_groups(elements, group_size) * group_size), matrix.dtype)
    padded[:, :elements] = matrix
    blocks = padded.reshape(channels, -1, group_size, group_stride)
    return np.ascontiguousarray(np.swapaxes(blocks, 2, 3)).reshape(channels, -1, group_size)


def from_groups(grouped: np.ndarray, group_stride: int, channel_elements: int) -> np.ndarray:
    """Inverse of `groups`: `(num_channels, K)`."""
    channels, _, group_size = grouped.shape
    blocks = grouped.reshape(channels, -1, group_stride, group_size)
    return np.ascontiguousarray(np.swapaxes(blocks, 2, 3).reshape(channels, -1)[:, :channel_elements])


def rebuild(ids: np.ndarray, basis: Basis) -> np.ndarray:
    """The weights before their scale: whole numbers as float32 `(num_channels, K)`.

    Args:
        ids: int8 `(num_channels, K)`.
        basis: whose values are `(num_slices, S, S, num_channels)`.
    """
    grouped = groups(coefficients(ids), basis.group_size, basis.group_stride)
    weights = np.empty_like(grouped)
    for number, values in enumerate(basis.values.astype(np.float32)):
        part = slice(number * basis.slice_groups, (number + 1) * basis.slice_groups)
        weights[:, part] = np.einsum("ngj,jsn->ngs", grouped[:, part], values) + np.float32(0)  # a sum of zeros is +0
    return from_groups(weights, basis.group_stride, ids.shape[1])
