"""What a layer's rounding errors do to the model's output: measured, one layer (or a few neighbours) at a time.

All weights are packed as finely as ids allow; then one layer is packed coarsely, and the noise this adds to the outputs is divided by the noise in its weights. For small
errors the noise of all layers adds up, so these figures are all that `allocate` needs of the network.

On calibration data the figures hold as measured: they predict those on other inputs of the kind to 0.1 dB of the allocation's gain. On made-up inputs they are right
on average and wrong in single layers, which costs more than it gains where a layer seems to matter less than it does. So they are drawn towards their mean: raised to a
power below 1.
"""

import math
from collections.abc import Callable

import numpy as np

from tflite_smart.converter.allocate import LayerFacts
from tflite_smart.converter.candidates import Candidates
from tflite_smart.converter.notebook import Notebook
from tflite_smart.converter.probe import Belief, Probe, output_snr_db
from tflite_smart.converter.rate_distortion import Curve

# Rms error over rms weight if all layers were of one size; larger ones get more, as they will be given: error balancing and feedback depend on the step, so layers are measured near
# where they will be. How the roundings happen to fall differs from one error to the next, and the mean tells more than any.
_COARSE = (0.1, 0.14, 0.07, 0.2)
_COARSEST = 0.5
FINEST = 2e-3
_LEAST = 1e-4  # of the mean: what changes nothing on some inputs may on others
# How far to trust what was measured on which inputs.
_EXPONENTS = {Belief.CALIBRATION: 1.0, Belief.ACTIVITY: 0.75, Belief.DISTURBANCE: 0.5}


def groups(candidates: Candidates, most: int) -> list[list[int]]:
    """Tunable weights to be tested together: each for itself, or neighbours in the order of the graph where there are more than `most`."""
    tunable = [index for index, shared in enumerate(candidates.tunable) if shared]
    return [part.tolist() for part in np.array_split(tunable, min(most, len(tunable)))] if tunable else []


def measure(
    candidates: Candidates, probe: Probe, tested: list[list[int]], measurements: int, step: Callable = lambda item: item, notebook: Notebook = Notebook()
) -> list[LayerFacts | None] | None:
    """What `allocate` wants to know of every tunable weight, None for the others; None for all where the outputs tell nothing.

    Args:
        tested: of `groups`. measurements: how many in all, or one per group: few groups are measured with all errors of `_COARSE`, many with the first.
        step: called after every group, for progress.
        notebook: keeps the measurements.
    """
    curves = {index: candidates.curve(index) for group in tested for index in group}
    reference = probe.outputs(step(candidates.with_errors({}, FINEST)).path)
    snr_db, measured = lambda path: output_snr_db(reference, probe.outputs(path)), {}  # noqa: E731
    for group in tested:
        errors = _COARSE[: repeats(len(tested), measurements)]
        found = [notebook.remembered(f"sensitivity of {group} at {coarse}", lambda: _sensitivity(candidates, {index: curves[index] for index in group}, coarse, snr_db)) for coarse in errors]
        measured |= dict.fromkeys(group, float(np.mean(found)))
        step(group)
    drawn = _drawn_to_mean(measured, candidates, _EXPONENTS[probe.belief])
    return drawn and [LayerFacts(curves[index], drawn[index]) if index in curves else None for index in range(len(candidates.weights))]


def repeats(num_groups: int, measurements: int) -> int:
    """With how many errors each group is measured."""
    return min(max(measurements // max(num_groups, 1), 1), len(_COARSE))


def _sensitivity(candidates: Candidates, curves: dict[int, Curve], coarse: float, snr_db: Callable[[str], float]) -> float:
    """Output noise over weight noise with coarse weights in one group; `coarse` is the error of a weight of mean size.

    The noise in the weights is what plain rounding has; where errors are balanced or fed back there is more of it, and it does less.
    """
    sizes = [weight.info.num_elements for weight, tunable in zip(candidates.weights, candidates.tunable) if tunable]
    errors = {index: min(coarse * math.sqrt(candidates.weights[index].info.num_elements / np.mean(sizes)), _COARSEST) for index in curves}
    noise = 10 ** (-snr_db(candidates.with_errors(errors, FINEST).path) / 10)
    return noise / sum(curves[index].noise_at(error) for index, error in errors.items())


def _drawn_to_mean(measured: dict[int, float], candidates: Candidates, exponent: float) -> dict[int, float] | None:
    usable = {index: value for index, value in measured.items() if math.isfinite(value) and value > 0}
    if not usable:
        return None
    sizes = np.array([candidates.weights[index].info.num_elements for index in usable], float)
    mean = math.exp(np.average(np.log(list(usable.values())), weights=sizes))
    bounded = {index: max(value, _LEAST * mean) if math.isfinite(value) else mean for index, value in measured.items()}
    return {index: mean * (value / mean) ** exponent for index, value in bounded.items()}
