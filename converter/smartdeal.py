"""SmartDeal: a weight matrix as sparse powers of two times small bases, `W = Ce B`.

Every output channel is a tall matrix of groups (`codecs/smartdeal.py` says which weights make a group), cut in slices with an S x S basis each. Fitting alternates, as in the paper,
between Ce for a given B and B for a given Ce. Two things differ:

* Ce is not projected and cut at a threshold, but every coefficient takes the power of two, or the zero, that costs least in error plus `penalty` times its code's length. Zero is the shortest
  code, so sparsity comes by itself; at equal error on ResNet56 this takes a third of a bit a weight less than the threshold.
* B is 8-bit, with one scale for every channel; the published code leaves it in float.

Arrays in, arrays out. Source: SmartDeal, arXiv:2101.01163, algorithm 1; SmartExchange, arXiv:2005.03403.
"""

import dataclasses

import numpy as np

from tflite_smart.converter.codecs.smartdeal import MAX_GROUP, MAX_PIECE, Basis, coefficients, from_groups, groups, num_groups, num_slices, piece, rebuild

EXPONENTS = 7  # 2^0 .. 2^6, their negatives and zero: 15 codes, 4 bits
SLICE_GROUPS = 192  # rows of a slice at most, as published
_NEIGHBOURS = 3  # group size where a filter has no width
_ROUNDS = 8  # the error falls by less than 1 % after that
_BLOCK_ELEMENTS = 1 << 20  # weights that are fitted at once
_ZERO_BITS, _CODE_BITS = 2.0, 3.5  # the first guess of code lengths, which decides where fitting ends: near sparse coefficients, not near signs
START = 16.0  # root mean square of the first coefficients: the middle of the window
_RIDGE = 1e-4
_COMMON_POWER = 1.0  # squared mean of the inputs over their variance
_LARGEST_STEP = 127.0
_LEAST_PENALTY, _MOST_PENALTY, _BISECTIONS = 1e-4, 2.0, 8
_SAMPLE_ELEMENTS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """`w[n, k] ~= scales[n] * rebuild(ids, basis)[n, k]`: ids int8 `(num_channels, K)`, scales float32 `(num_channels,)`."""

    ids: np.ndarray
    basis: Basis
    scales: np.ndarray


def grouping(inner_shape: tuple[int, ...], spatial: bool) -> tuple[int, int, int]:
    """`group_size`, `group_stride` and `slice_groups` for a weight.

    Args:
        inner_shape: the axes inside an output channel: `(h, w, in)` of a filter, `(h, w)` of a depthwise one, `(in,)` of a dense layer.
        spatial: whether the first two are taps.
    """
    elements = int(np.prod(inner_shape))
    size, stride = _NEIGHBOURS, 1
    if spatial and len(inner_shape) > 1 and 2 <= inner_shape[1] <= MAX_GROUP:
        channels = int(np.prod(inner_shape[2:]))
        if channels == 1 or piece(elements, inner_shape[1], channels) <= MAX_PIECE:
            size, stride = inner_shape[1], channels
    rows = num_groups(elements, size)
    return size, stride, -(-rows // -(-rows // SLICE_GROUPS))  # slices of equal length


def basis_bits(elements: int, group_size: int, slice_groups: int) -> float:
    """What the bases cost, in bits per weight, for channels of so many elements."""
    return 8 * group_size**2 * num_slices(elements, group_size, slice_groups) / elements


def decompose(weights: np.ndarray, shape: tuple[int, int, int], penalty: float) -> Decomposition:
    """Fits coefficients and bases.

    Args:
        weights: float32 `(num_channels, K)`.
        shape: `group_size`, `group_stride`, `slice_groups`.
        penalty: what a bit costs, in units of the channel's mean square weight; 0 is the closest fit, .02 some 3 bits a weight, .1 some 2.5.
    """
    size, stride, slice_groups = shape
    channels, elements = weights.shape
    ids = np.empty(weights.shape, np.int8)
    values = np.empty((num_slices(elements, size, slice_groups), size, size, channels), np.int8)
    scales = np.empty(channels, np.float32)
    lengths = np.where(np.arange(-EXPONENTS, EXPONENTS + 1) == 0, _ZERO_BITS, _CODE_BITS).astype(np.float32)
    present = _slices(groups(np.ones((1, elements), np.int8), size, stride), slice_groups)  # a group that is cut short has fewer coefficients too
    step = max(1, _BLOCK_ELEMENTS // elements)
    for start in range(0, channels, step):
        rows = slice(start, start + step)
        tall = _slices(groups(weights[rows], size, stride), slice_groups)
        unit = np.sqrt(np.square(weights[rows], dtype=np.float64).mean(axis=1)).astype(np.float32)
        tall = tall * np.divide(1.0, unit, out=np.zeros_like(unit), where=unit > 0)[:, None, None, None]
        fitted, basis, lengths = _fit(tall, present, penalty, lengths, _ROUNDS if start == 0 else _ROUNDS // 2)
        largest = np.abs(basis).max(axis=(1, 2, 3))  # above 0: it starts so, and the ridge keeps it
        steps = (largest / _LARGEST_STEP)[:, None, None, None]
        quantized = np.rint(basis / steps)
        ids[rows] = from_groups(fitted.reshape(len(fitted), -1, size)[:, : num_groups(elements, size)], stride, elements)
        values[..., rows] = np.moveaxis(quantized, 0, -1)
        scales[rows] = largest / _LARGEST_STEP * unit
    return Decomposition(ids, Basis(size, stride, slice_groups, values), scales)


def decompose_to_error(weights: np.ndarray, shape: tuple[int, int, int], relative_error: float) -> Decomposition:
    """The smallest decomposition whose error, rms over the rms of the weights, is about `relative_error`; the closest one where it can't be so small: below some .16."""
    return decompose(weights, shape, _find_penalty(weights, shape, lambda error, bits: error > relative_error))


def decompose_to_size(weights: np.ndarray, shape: tuple[int, int, int], bits_per_weight: float) -> Decomposition:
    """The closest decomposition of about so many bits a weight: the entropy of the ids plus the bases."""
    return decompose(weights, shape, _find_penalty(weights, shape, lambda error, bits: bits < bits_per_weight))


def _find_penalty(weights: np.ndarray, shape: tuple[int, int, int], too_large) -> float:
    """Bisects the penalty, in which the error rises and the bits fall, on some of the channels. `too_large(error, bits)` says which way to go."""
    channels, elements = weights.shape
    sample = weights[:: max(1, channels * elements // _SAMPLE_ELEMENTS)]
    power = float(np.square(sample, dtype=np.float64).mean())
    low, high = np.log(_LEAST_PENALTY), np.log(_MOST_PENALTY)
    for _ in range(_BISECTIONS if power > 0 else 0):
        middle = (low + high) / 2
        fitted = decompose(sample, shape, float(np.exp(middle)))
        error = np.sqrt(np.square(sample - reconstruct(fitted), dtype=np.float64).mean() / power)
        bits = _entropy(fitted.ids) + basis_bits(elements, shape[0], shape[2])
        low, high = (low, middle) if too_large(error, bits) else (middle, high)
    return float(np.exp((low + high) / 2))


def reconstruct(fitted: Decomposition) -> np.ndarray:
    """The weights that a decomposition stands for, float32 `(num_channels, K)`."""
    return fitted.scales[:, None] * rebuild(fitted.ids, fitted.basis)


def _slices(grouped: np.ndarray, slice_groups: int) -> np.ndarray:
    """`(channels, groups, S)` to `(channels, slices, slice_groups, S)`, filled up with groups of zeros."""
    channels, rows, size = grouped.shape
    padded = np.zeros((channels, -(-rows // slice_groups) * slice_groups, size), grouped.dtype)
    padded[:, :rows] = grouped
    return padded.reshape(channels, -1, slice_groups, size)


def _fit(tall: np.ndarray, present: np.ndarray, penalty: float, lengths: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids `(channels, slices, rows, S)`, bases float32 `(channels, slices, S, S)` and the code lengths in bits that they lead to, of slices with mean square 1."""
    size = tall.shape[-1]
    basis = np.broadcast_to(np.eye(size, dtype=np.float32) / np.float32(START), (*tall.shape[:2], size, size))
    ids = np.zeros(tall.shape, np.int8)
    for _ in range(rounds):
        ids = _best_ids(tall, ids, basis, penalty, lengths) * present
        lengths = _code_lengths(ids)
        basis = _best_basis(tall, coefficients(ids), basis)
    return ids, basis, lengths


def _best_ids(tall: np.ndarray, ids: np.ndarray, basis: np.ndarray, penalty: float, lengths: np.ndarray) -> np.ndarray:
    """Every coefficient in turn to the best value that it can have beside the others, twice.

    With the others fixed, the error of coefficient c is `(c - t)^2 b b^T` plus a constant, t being its least-squares value: only zero and the two powers of two around |t| can be best.
    """
    gram = np.einsum("csij,cskj->csik", basis, basis)
    wanted = np.einsum("csrk,csjk->csrj", tall, basis)
    values = coefficients(ids)
    ids = ids.copy()
    for j in [*range(ids.shape[-1])] * 2:
        energy = np.maximum(gram[..., j, j], np.finfo(np.float32).tiny)[..., None]
        target = values[..., j] + (wanted[..., j] - np.einsum("csri,csi->csr", values, gram[..., j])) / energy
        ids[..., j] = _best_powers(target, energy, penalty, lengths)
        values[..., j] = coefficients(ids[..., j])
    return ids


def _best_powers(target: np.ndarray, energy: np.ndarray, penalty: float, lengths: np.ndarray) -> np.ndarray:
    """Ids of the cheapest power of two or zero for every target; `energy` is what a squared difference costs."""
    size = np.abs(target)
    lower = np.clip(np.frexp(size)[1], 1, EXPONENTS - 1)  # the id of the power of two at or below, so that the one above exists too
    best = np.square(size) * energy + penalty * lengths[EXPONENTS]
    ids = np.zeros(target.shape, np.int8)
    for magnitude in (lower, lower + 1):
        signed = np.where(target < 0, -magnitude, magnitude)
        cost = np.square(np.ldexp(np.float32(1), magnitude - 1) - size) * energy + penalty * lengths[EXPONENTS + signed]
        ids = np.where(cost < best, signed, ids)
        best = np.minimum(cost, best)
    return ids.astype(np.int8)


def _best_basis(tall: np.ndarray, values: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Least squares for inputs that have a mean beside their variance, as after a ReLU: against those the sum of the errors counts, see `feedback.TypicalInputs`.

    Drawn a little to the previous basis, which decides where a coefficient is zero in a whole slice.
    """
    sums, wanted_sums = values.sum(axis=2), tall.sum(axis=2)
    gram = np.einsum("csri,csrj->csij", values, values) + _COMMON_POWER * sums[..., :, None] * sums[..., None, :]
    wanted = np.einsum("csri,csrj->csij", values, tall) + _COMMON_POWER * sums[..., :, None] * wanted_sums[..., None, :]
    ridge = _RIDGE * np.trace(gram.astype(np.float64), axis1=-2, axis2=-1)[..., None, None] + 1e-9
    size = tall.shape[-1]
    return np.linalg.solve(gram + ridge * np.eye(size), wanted + ridge * previous).astype(np.float32)


def _code_lengths(ids: np.ndarray) -> np.ndarray:
    """Bits of the ids -7..7 under an ideal entropy coder; what does not occur counts as if it did once."""
    counts = _histogram(ids) + 1
    return (np.log2(counts.sum()) - np.log2(counts)).astype(np.float32)


def _entropy(ids: np.ndarray) -> float:
    counts = _histogram(ids)
    share = counts[counts > 0] / ids.size
    return float(-(share * np.log2(share)).sum())


def _histogram(ids: np.ndarray) -> np.ndarray:
    return np.bincount((ids.reshape(-1) + EXPONENTS).view(np.uint8), minlength=2 * EXPONENTS + 1)
