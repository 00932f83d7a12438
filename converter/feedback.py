"""Rounding with error feedback: what one weight's rounding does to the layer's output is made up for by the weights that are still to come.

READ FIRST. Plain rounding minimises the error e of the weights; what counts is that of the layer's output, `e H e^T` with H the second moment of the layer's inputs. With `H = U U^T`,
U upper triangular, that is a sum over the columns k,

    e H e^T = sum over k of d_k (e_k + sum over j < k of e_j matrix[j, k])^2,     d_k = U_kk^2,  matrix[j, k] = U_jk / U_kk

so a column that aims at its weight plus what the columns before it left over, and is rounded to the nearest value, is the greedy optimum (optimal brain surgeon, Hassibi and Stork 1993; GPTQ,
arXiv:2210.17323; a Babai rounding of the lattice). `trellis` searches among eight beginnings instead.

Where steps are wide the least error is that of weights which are a little too small: noise of another kind, as all samples, and layer after layer, have it in the same direction. There channels are
rounded once more, enlarged by what they lost. (Bits must not pull weights towards 0 either: rounding that weighs them against `e H e^T` makes that smaller and the outputs worse.)

H comes from calibration data (`MeasuredInputs`) or is what the inputs of layers have in common (`TypicalInputs`); on made-up inputs half and half. Channels are rounded in blocks of columns, and both say the same two things:
the matrix inside a block, and what the blocks before ask of it.
"""

import abc
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tflite_smart.converter import trellis
from tflite_smart.converter.codecs.base import MAX_ID, MIN_ID
from tflite_smart.delegates import native

# Relative to the mean of H's diagonal: inputs that never occurred in the calibration data still keep their weights near where they were.
_DAMPING = 0.02
_BLOCK = 64
# Compared by the outputs of a calibrated VGG16 at 40 times smaller, on training images that did not calibrate: from .2 to .5, and from 1.1 to 1.25, they hardly differ, and are better than without.
_WIDE = 0.33  # steps are wide that round so many of the weights to 0
_MOST_GAIN = 1.25  # at most, for channels that have hardly an id left
_CHANNELS = 128  # rounded at once, whatever the number of threads: sums of another shape may round another way
# What the inputs of convolutions after a ReLU have in common, measured on ResNets and MobileNets: the square of their mean is about .3 of their second moment, and the rest
# correlates by .5 to .7 from one tap of the filter to the next; between .2 and .4, and .65 and .85, the outputs hardly differ.
_MEAN_SHARE, _TAP_CORRELATION = 0.3, 0.7


class Inputs(abc.ABC):
    """What is known of a layer's inputs, as the factor U of their second moment."""

    @abc.abstractmethod
    def block(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """`matrix[start:end, start:end]` and `d[start:end]`, float32; d has the geometric mean 1."""

    @abc.abstractmethod
    def follow(self, num_channels: int) -> Callable[[np.ndarray, int, int], np.ndarray]:
        """A function to be called block after block with (errors, start, end): what columns `start..end` must make up for, `errors[:, :start] @ matrix[:start, start:end]`."""


class IndependentInputs(Inputs):
    """Inputs that have nothing in common: no weight can make up for another."""

    def block(self, start, end):
        return np.zeros((end - start, end - start), np.float32), np.ones(end - start, np.float32)

    def follow(self, num_channels):
        return lambda errors, start, end: np.zeros((num_channels, end - start), np.float32)


class MeasuredInputs(Inputs):
    """Inputs of a known second moment.

    Args:
        factor: of `feedback_factor`.
    """

    def __init__(self, factor: np.ndarray):
        self._factor = factor

    def block(self, start, end):
        part = np.array(self._factor[start:end, start:end])
        return part, part.diagonal().copy()

    def follow(self, num_channels):
        return lambda errors, start, end: errors[:, :start] @ np.ascontiguousarray(self._factor[:start, start:end])


class TypicalInputs(Inputs):
    """Inputs as they are without data: the columns are (tap, input channel), and the second moment of two of them is

        m^2 + (1 - m^2) r^(distance of their taps)     for one input channel;     m^2     for two

    With R the second moment inside an input channel without `m^2`, `R = A^T diag(delta) A` as above, and the innovations `f = A e` of every channel, the output's error is
    `sum delta f^2 + m^2 (sum c f)^2` with `c = 1 A^-1`: a rank of one on top of a diagonal, so that the past enters only through its sum s, and no k x k matrix is ever made.

    Args:
        taps: height and width of the filter; (1, 1) for dense layers.
        channels: how many input channels an output channel sees.
    """

    def __init__(self, taps: tuple[int, int], channels: int):
        self._channels = channels
        factor = _upper_factor((1 - _MEAN_SHARE) * _TAP_CORRELATION ** _distances(taps))
        delta = np.square(factor.diagonal())
        self._inside = factor / factor.diagonal()  # [j, k]: what tap k makes up for of tap j
        total = np.linalg.solve(self._inside, np.ones(len(factor)))  # c: an innovation's part in the sum of the errors
        tap = np.arange(len(factor) * channels) // channels
        power = (np.square(total) / delta)[tap]
        after = power.sum() - np.cumsum(power)
        share = _MEAN_SHARE / (1 + _MEAN_SHARE * after)
        self._weights = delta[tap] * (1 + share * power)
        self._weights /= np.exp(np.log(self._weights).mean())
        self._pull = share * total[tap] / delta[tap] / (1 + share * power)  # of the sum s on the column's target
        self._total = total[tap]

    def block(self, start, end):
        columns = np.arange(start, end)
        tap, channel = np.divmod(columns, self._channels)
        inside = np.where(channel[:, None] == channel, self._inside[tap[:, None], tap], 0.0)
        sums = inside * self._total[columns]
        matrix = inside + (np.cumsum(sums, axis=1) - sums) * self._pull[columns]
        return matrix.astype(np.float32), self._weights[start:end].astype(np.float32)

    def follow(self, num_channels):
        sums, summed = np.zeros(num_channels, np.float32), 0
        total, pull = self._total.astype(np.float32), self._pull.astype(np.float32)

        def asked(errors, start, end):
            nonlocal sums, summed
            sums, summed = sums + self._innovations(errors, summed, start, start) @ total[summed:start], start
            passed_on = self._innovations(errors, start, end, start)
            so_far = passed_on * total[start:end]
            return passed_on + (sums[:, None] + np.cumsum(so_far, axis=1) - so_far) * pull[start:end]

        return asked

    def _innovations(self, errors, start, end, known):
        """What taps pass on inside their input channels to columns `start..end` from columns below `known`; the columns' own errors included."""
        result = np.zeros((len(errors), end - start), np.float32)
        for back in range(len(self._inside)):
            first = max(start, back * self._channels)
            last = min(end, known + back * self._channels)
            if first < last:
                columns = np.arange(first, last)
                tap = columns // self._channels
                result[:, first - start : last - start] += errors[:, first - back * self._channels : last - back * self._channels] * self._inside[tap - back, tap].astype(np.float32)
        return result


def half_typical(second_moment: np.ndarray, taps: tuple[int, int]) -> np.ndarray:
    """What to believe of inputs whose second moment `(k, k)` was measured on made-up samples: the mean of that and of `TypicalInputs`, both of mean size 1.

    The network's own layers shape even made-up inputs: which channels are loud, and which go together. On trained networks this is worth .5 to 10 dB of output SNR at equal size beside
    either half alone. `taps` as in `TypicalInputs`.
    """
    size = max(np.trace(second_moment) / len(second_moment), np.finfo(np.float32).tiny)
    typical = np.kron((1 - _MEAN_SHARE) * _TAP_CORRELATION ** _distances(taps), np.eye(len(second_moment) // math.prod(taps), dtype=np.float32)) + _MEAN_SHARE
    return (second_moment / size + typical) / 2


def feedback_factor(second_moment: np.ndarray) -> np.ndarray:
    """`matrix` with `d` on its diagonal, float32 `(k, k)`.

    Args:
        second_moment: H, `(k, k)`, the mean of x x^T over the layer's inputs x. It is damped.
    """
    damped = second_moment.astype(np.float64)
    mean = np.trace(damped) / len(damped)
    damped[np.diag_indices_from(damped)] += _DAMPING * mean if mean > 0 else 1.0
    factor = _upper_factor(damped)
    weights = np.square(factor.diagonal())
    factor /= factor.diagonal()
    factor[np.diag_indices_from(factor)] = weights / np.exp(np.log(weights).mean())
    return factor.astype(np.float32)


def _distances(taps: tuple[int, int]) -> np.ndarray:
    """Of every two taps of a filter."""
    places = np.stack(np.unravel_index(np.arange(math.prod(taps)), taps), 1)
    return np.sqrt(np.square(places[:, None] - places[None]).sum(-1))


def _upper_factor(second_moment: np.ndarray) -> np.ndarray:
    """Upper triangular U with `U U^T = H`."""
    return np.linalg.cholesky(second_moment[::-1, ::-1])[::-1, ::-1]


def round_ids(weights: np.ndarray, steps: np.ndarray, inputs: Inputs, value_kind: str = "uniform") -> np.ndarray:
    """Bucket ids int8 `(num_channels, k)` that keep the layer's output close, not each weight.

    Args:
        weights: float32 `(num_channels, k)`.
        steps: float32 `(num_channels,)`, the scales: bucket widths, for `dependent` half of that.
        inputs: what is known of the layer's inputs.
        value_kind: `uniform`, `midrise` or `dependent`.
    """
    inverse = np.divide(1.0, steps, out=np.zeros(len(steps), np.float32), where=steps > 0, dtype=np.float32)
    offset = np.float32(0.5 if value_kind == "midrise" else 0.0)
    parts = [slice(first, first + _CHANNELS) for first in range(0, len(weights), _CHANNELS)]
    ids = np.empty(weights.shape, np.int8)

    alone = isinstance(inputs, IndependentInputs) and value_kind != "dependent"  # one grid and nothing to make up for

    def round_part(rows: slice) -> None:
        scaled = weights[rows] * inverse[rows, None] - offset
        if alone:
            ids[rows] = np.clip(np.rint(scaled), MIN_ID, MAX_ID)
            return
        ids[rows], errors = _round_channels(scaled, inputs, value_kind == "dependent")
        if value_kind != "midrise" and np.count_nonzero(ids[rows]) < (1 - _WIDE) * np.count_nonzero(scaled):
            ids[rows], _ = _round_channels(scaled * _gains(scaled, errors, inputs)[:, None], inputs, value_kind == "dependent")

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as threads:
        list(threads.map(round_part, parts))
    return ids


def output_noise(errors: np.ndarray, inputs: Inputs) -> float:
    """`e H e^T` summed over the channels' errors `(num_channels, k)`, in the unit of `Inputs.block`."""
    return sum(float((np.square(left_over, dtype=np.float64) * importance).sum()) for left_over, importance in _innovations(errors, inputs))


def _innovations(errors: np.ndarray, inputs: Inputs) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of every block of columns what is squared in `e H e^T`, `(num_channels, columns)`, and its weights d."""
    follow = inputs.follow(len(errors))
    for start in range(0, errors.shape[1], _BLOCK):
        end = min(errors.shape[1], start + _BLOCK)
        matrix, importance = inputs.block(start, end)
        part = errors[:, start:end]
        yield part + follow(errors, start, end) + part @ np.triu(matrix, 1), importance


def _gains(weights: np.ndarray, errors: np.ndarray, inputs: Inputs) -> np.ndarray:
    """What the channels must be multiplied by so that their outputs, rounded, are as large as they were, float32 `(num_channels,)`: `w H w^T / w H (w - e)^T`."""
    power, lost = np.zeros(len(weights)), np.zeros(len(weights))
    for (whole, importance), (error, _) in zip(_innovations(weights, inputs), _innovations(errors, inputs)):
        power += np.square(whole, dtype=np.float64) @ importance
        lost += (whole * error) @ importance
    kept = np.divide(power - lost, power, out=np.ones_like(power), where=power > 0)
    return (1 / kept.clip(1 / _MOST_GAIN, _MOST_GAIN)).astype(np.float32)


def _round_channels(scaled: np.ndarray, inputs: Inputs, dependent: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids of some channels, whose weights are given in steps, and their errors in steps."""
    round_block = _rounder()
    ids, errors = np.empty(scaled.shape, np.int8), np.zeros_like(scaled)
    states, follow = np.zeros(len(scaled), np.uint8), inputs.follow(len(scaled))
    for start in range(0, scaled.shape[1], _BLOCK):
        end = min(scaled.shape[1], start + _BLOCK)
        part = slice(start, end)
        ids[:, part], values = round_block(scaled[:, part], follow(errors, start, end), *inputs.block(start, end), states, dependent)
        errors[:, part] = scaled[:, part] - values
    return ids, errors


def _rounder():
    """The C++ trellis where the library is built, else the reference; the ids are the same."""
    try:
        native.library()
    except native.DelegateLibraryError:
        return trellis.round_block
    return native.round_block
