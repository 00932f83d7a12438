"""How much a compressed model's outputs differ from the original's, measured by running both.

With calibration inputs the converter uses those. Without data it makes inputs up (`synthetic`) in the ranges that models are trained for. It believes
the range that keeps the model's ReLUs busy (`activity`); in a model without ReLUs the one in which the model is least disturbed, as inputs of the wrong range drive a network
where its biases decide and small errors look large. It is a guess all the same. So reports name the inputs, and real ones are better.
"""

import enum
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tflite_smart.converter import calibration
from tflite_smart.converter.synthetic import RANGES, VOCABULARIES, synthetic_inputs

_SATURATED_DB = 100.0
_TRUSTWORTHY_DB = 30.0  # what a fine copy of a model reaches where fidelity can be measured: more than most aim at


def output_snr_db(reference: Sequence[Sequence[np.ndarray]], candidate: Sequence[Sequence[np.ndarray]]) -> float:
    """Signal-to-noise ratio of the candidate's outputs in dB: the worst of the float outputs, over all samples.

    Outputs are centred along the last axis, so that a constant offset is no signal. Probabilities (rows that sum to 1) are compared as logarithms: a
    saturated softmax hides differences that the next input will show.

    Args:
        reference, candidate: `[sample][output]` arrays.

    Returns:
        inf where they are equal; nan where no output is float.
    """
    worst = math.nan
    for index, first in enumerate(reference[0] if reference else []):
        if not np.issubdtype(first.dtype, np.floating):
            continue
        a = np.stack([sample[index] for sample in reference]).astype(np.float64)
        b = np.stack([sample[index] for sample in candidate]).astype(np.float64)
        if a.shape[-1] > 1 and a.min() >= 0 and np.allclose(a.sum(-1), 1, atol=1e-3):
            a, b = np.log(np.maximum(a, 1e-9)), np.log(np.maximum(b, 1e-9))
        if a.shape[-1] > 1:
            a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
        signal, noise = float(np.square(a).sum()), float(np.square(a - b).sum())
        snr = math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal else -math.inf
        worst = snr if math.isnan(worst) else min(worst, snr)
    return worst


class Belief(enum.Enum):
    """Why the inputs are thought to be like real ones."""

    CALIBRATION = "they were given"
    ACTIVITY = "they keep the ReLUs busy"
    DISTURBANCE = "they disturb the model least"


class Probe:
    """Runs one model on fixed inputs and tells how far others are from it.

    Args:
        open_interpreter: gives an unallocated LiteRT interpreter of a model (path or bytes).
        model: the original.
        inputs: samples (`[sample][input]` arrays) to use instead of synthetic ones.
        num_samples: how many synthetic samples in every range.
        open_reference: gives the interpreter of `model`; `open_interpreter` if None. Both run a model as its operators ask for, but the original of a comparison
            may itself be a compressed model, which must then be computed exactly.
        rate: range name -> samples to range name -> a figure that is highest for the range to believe, or nothing; see `activity`. It is asked about noise, which drives all filters alike.

    Attributes:
        inputs_name: which inputs the figures are about; where activity decides, see `settle`. belief: why.

    Raises:
        RuntimeError, ValueError: LiteRT can't run the model on such inputs.
    """

    def __init__(self, open_interpreter: Callable, model, inputs: list[list[np.ndarray]] | None = None, num_samples: int = 12,
                 open_reference: Callable | None = None, rate: Callable = lambda sets: {}):
        self._open, self._open_reference = open_interpreter, open_reference or open_interpreter
        self.inputs_name, self.belief = "calibration data", Belief.CALIBRATION
        if inputs:
            self._sets = {self.inputs_name: (inputs, _run(self._open_reference(model), inputs))}
            return
        self._sets, noise = self._synthetic(model, num_samples)
        rates = rate(noise) if len(self._sets) > 1 else {}
        self.belief = Belief.ACTIVITY if rates else Belief.DISTURBANCE
        self._sets = dict(sorted(self._sets.items(), key=lambda entry: -rates.get(entry[0], 0.0)))
        if rates:
            self.inputs_name = next(iter(self._sets))

    def settle(self, fine_copy) -> None:
        """Settles for the inputs that keep the ReLUs busiest, unless even a fine copy of the model answers differently there, as a classifier does that is driven far beyond certainty; then for
        the next. Saturated outputs tell nothing either. Where no inputs are better than that, or where disturbance decides, nothing changes."""
        if self.belief is not Belief.ACTIVITY:
            return
        interpreter = self._open(fine_copy)
        good = (name for name, (samples, reference) in self._sets.items() if _TRUSTWORTHY_DB <= output_snr_db(reference, _run(interpreter, samples)) < _SATURATED_DB)
        self._believe(next(good, self.inputs_name))

    def outputs(self, model) -> list[list[np.ndarray]]:
        """A model's outputs `[sample][output]` on the inputs that are believed; before the first `snr_db` these may be those of several ranges."""
        interpreter = self._open(model)
        return [output for samples, _ in self._sets.values() for output in _run(interpreter, samples)]

    def snr_db(self, candidate) -> float:
        """The candidate's output SNR in dB, nan where no inputs give a finite answer. Where activity did not decide on the range of the inputs, the first call does;
        only that range is used from then on."""
        interpreter = self._open(candidate)
        figures = {name: output_snr_db(reference, _run(interpreter, samples)) for name, (samples, reference) in self._sets.items()}
        usable = {name: figure for name, figure in figures.items() if not math.isnan(figure) and figure != -math.inf}
        if not usable:
            return math.nan
        # Where outputs are saturated nothing disturbs them, and nothing can be learned.
        usable = {name: figure for name, figure in usable.items() if figure < _SATURATED_DB} or usable
        self._believe(max(usable, key=usable.get))
        return usable[self.inputs_name]

    def _believe(self, name: str) -> None:
        self.inputs_name, self._sets = name, {name: self._sets[name]}

    def _synthetic(self, model, num_samples: int) -> tuple[dict[str, tuple[list, list]], dict[str, list]]:
        """Inputs and the original's outputs by range, and noise by range. A model that stops on token ids outside its table gets smaller ones."""
        for vocabulary in VOCABULARIES[:-1]:
            try:
                return self._references(model, num_samples, vocabulary)
            except RuntimeError:
                continue
        return self._references(model, num_samples, VOCABULARIES[-1])

    def _references(self, model, num_samples: int, vocabulary: int) -> tuple[dict[str, tuple[list, list]], dict[str, list]]:
        interpreter = self._open_reference(model)
        sets, noise = (synthetic_inputs(interpreter.get_input_details(), num_samples, vocabulary=vocabulary, scenes=scenes) for scenes in (True, False))
        return {name: (samples, _run(interpreter, samples)) for name, samples in zip(RANGES, sets)}, dict(zip(RANGES, noise))


def _run(interpreter, samples: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Outputs `[sample][output]` of an interpreter that may still have to be resized and allocated."""
    outputs = []
    for sample in samples:
        calibration.run(interpreter, sample)
        outputs.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
    return outputs
