"""Compares the outputs of two models on the same inputs.

Pure numbers: whoever calls it runs the models. Metrics per output, over all samples:

    max_abs   max |a - b|
    relative  rms(a - b) / rms(a)         what a tolerance is compared with: it has no unit, and one near-tie of a softmax does not decide it
    snr_db    10 log10(sum a^2 / sum (a - b)^2) = -20 log10(relative)
    cosine    a . b / (|a| |b|)
    top1      share of rows (last axis) whose largest element is at the same place; None for rows of one element

Equal outputs have max_abs 0, snr_db infinite, cosine 1. A NaN or an infinity in one output and not in the other makes `relative`
infinite, so that no tolerance accepts it.
"""

from dataclasses import asdict, dataclass
import math

import numpy as np

from tflite_smart.converter.errors import VerificationError


@dataclass(frozen=True)
class OutputComparison:
    """How far one output of B is from the same output of A."""

    name: str
    max_abs: float
    relative: float
    snr_db: float
    cosine: float
    top1: float | None
    num_values: int

    def within(self, tolerance: float) -> bool:
        """Whether the rms difference is at most `tolerance` times the rms output. 0 asks for equal values."""
        return self.relative <= tolerance

    def to_dict(self) -> dict:
        """Returns plain JSON values; JSON has no infinity, so an infinite figure becomes None."""
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in asdict(self).items()}


class Comparer:
    """Gathers the figures of one output over many samples without keeping them."""

    def __init__(self, name: str):
        self.name = name
        self._max_abs = 0.0
        self._aa = self._bb = self._ab = self._dd = 0.0
        self._num_values = self._rows = self._same_rows = 0
        self._broken = False

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Adds one pair of outputs of equal shape.

        Raises: VerificationError: the shapes differ.
        """
        if a.shape != b.shape:
            raise VerificationError(f"{self.name}: shape must be {list(a.shape)} in both models. Received: shape={list(b.shape)}. "
                                    "Compare models of the same task.")
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.ndim and a.shape[-1] > 1 and a.size:
            self._rows += a.size // a.shape[-1]
            self._same_rows += int(np.sum(a.argmax(-1) == b.argmax(-1)))
        self._num_values += a.size
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        finite = np.isfinite(a) & np.isfinite(b)
        self._broken |= not bool(np.all(same | finite))
        a, b = a[finite], b[finite]
        if a.size:
            difference = a - b
            self._max_abs = max(self._max_abs, float(np.abs(difference).max()))
            self._aa += float(a @ a)
            self._bb += float(b @ b)
            self._ab += float(a @ b)
            self._dd += float(difference @ difference)

    def result(self) -> OutputComparison:
        """Returns the figures of everything added so far."""
        return OutputComparison(
            name=self.name,
            max_abs=math.inf if self._broken else self._max_abs,
            relative=self._relative(),
            snr_db=-math.inf if self._broken else _decibel(self._aa, self._dd),
            cosine=math.nan if self._broken else self._cosine(),
            top1=self._same_rows / self._rows if self._rows else None,
            num_values=self._num_values)

    def _relative(self) -> float:
        if self._broken:
            return math.inf
        if self._max_abs == 0:
            return 0.0
        return math.sqrt(self._dd / self._aa) if self._aa else math.inf

    def _cosine(self) -> float:
        if self._dd == 0:
            return 1.0
        norms = math.sqrt(self._aa) * math.sqrt(self._bb)
        return self._ab / norms if norms else 0.0


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def compare_runs(first, second, samples) -> list[OutputComparison]:
    """Runs two models on the same samples and compares every output.

    Args:
        first, second: function: sample -> dictionary output name -> real values.
        samples: what they take, any number of times.
    Returns: one comparison per output, in the order of the first model. Outputs are paired by name where the names agree, else by position.
    Raises: VerificationError: another number of outputs or another shape, or no samples.
    """
    comparers: list[Comparer] = []
    for sample in samples:
        a, b = first(sample), second(sample)
        if len(a) != len(b):
            raise VerificationError(f"outputs: their number must be {len(a)} in both models. Received: {len(b)}. "
                                    "Compare models of the same task.")
        pairs = list(zip(a, a if set(a) == set(b) else b))
        comparers = comparers or [Comparer(name) for name in a]
        for comparer, (name_a, name_b) in zip(comparers, pairs):
            comparer.add(a[name_a], b[name_b])
    if not comparers:
        raise VerificationError("samples: there must be at least one. Received: 0. Give more --inputs.")
    return [c.result() for c in comparers]
