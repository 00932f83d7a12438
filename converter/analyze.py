"""What `convert` finds out about a model before it decides, as data: sensitivity and rate of every layer, and size against error of the whole model."""

import dataclasses
import os
import tempfile

import numpy as np

from tflite_smart.converter import search
from tflite_smart.converter.allocate import LayerFacts, allocate
from tflite_smart.converter.candidates import Candidates
from tflite_smart.converter.convert import Clock, Job, Progress, as_tflite, look_at_inputs, source_name
from tflite_smart.converter.errors import UnsupportedModelError
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.recipe import resolve
from tflite_smart.converter.report import Trial
from tflite_smart.converter.rewrite import is_smart
from tflite_smart.converter.selection import Weight

_COARSE_BITS = 4.0
_AT_SNR_DB = 28.0
_CURVE_SNRS_DB = (10, 15, 20, 25, 30, 35)


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One weight that shares the error budget.

    Attributes:
        sensitivity_db: noise of the outputs over noise of the weight, both relative.
        snr_if_coarse_db: expected of the outputs if this weight alone had `Analysis.coarse_bits` bits.
        bits_per_weight: what the allocation gives it where the outputs are expected to have `Analysis.at_snr_db`.
    """

    name: str
    op_type: str
    num_weights: int
    sensitivity_db: float
    snr_if_coarse_db: float
    bits_per_weight: float


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Result of `analyze`: `layers`, the most sensitive first; `curve`, from small to large, measured; `measured_on`, the inputs of both."""

    source: str
    file_bytes: int
    measured_on: str
    layers: list[LayerRow]
    curve: list[Trial]
    notes: list[str]
    coarse_bits: float = _COARSE_BITS
    at_snr_db: float = _AT_SNR_DB

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        return dataclasses.asdict(self)


def analyze(model: object, recipe: object = None, calibration_data: object = None, progress: Progress | None = None) -> Analysis:
    """Measures a model; writes nothing.

    Args: as for `convert`. The recipe says which tensors count; its target does not matter.

    Raises:
        TFLiteSmartError: see `errors`.
        UnsupportedModelError: the model can't be run, is compressed already, or has no weight to measure.
    """
    config, name = resolve(recipe).aiming_at(target_snr_db=_AT_SNR_DB), source_name(model)
    with tempfile.TemporaryDirectory(prefix="tflite_smart_") as folder:
        source, notes, _ = as_tflite(model, folder)
        original = Model.read(source)
        if is_smart(original):
            raise UnsupportedModelError(f"{name}: model must not be compressed yet. Received: one with TFLiteSmart operators. Run `tflite_smart expand` on it first.")
        job = Job(source, config, calibration_data, folder, Clock(progress))
        factors = look_at_inputs(job, original, notes) if calibration_data is not None else None
        candidates = Candidates(source, config, factors, os.path.join(folder, "candidate.tflite"))
        searcher = search.Search(source, config, candidates, calibration_data)
        with job.clock.phase("measure layers", searcher.num_layer_steps) as step:
            searcher.look(step)
        facts, probe = searcher.result.facts, searcher.result.probe
        if facts is None or probe is None or not any(facts):
            raise UnsupportedModelError(f"{name}: model must run on LiteRT, and hold float weights that the recipe packs, to be analyzed. Received: {searcher.result.note or 'none, or outputs that do not change'}.")
        with job.clock.phase("measure curve", len(_CURVE_SNRS_DB)) as step:
            curve = [step(searcher.try_budget(10 ** (-snr / 10), with_snr=True)) for snr in _CURVE_SNRS_DB]
    shares = allocate([weight.info for weight in candidates.weights], dataclasses.replace(config, error_budget=10 ** (-_AT_SNR_DB / 10)), facts)
    rows = [_row(weight, fact, settings.relative_error) for weight, fact, settings in zip(candidates.weights, facts, shares) if fact]
    return Analysis(name, original.file_bytes, probe.inputs_name, sorted(rows, key=lambda row: -row.sensitivity_db), curve, notes)


def _row(weight: Weight, fact: LayerFacts, asked: float) -> LayerRow:
    curve, sensitivity = fact.curve, fact.sensitivity
    # Bits fall as the error grows; np.interp wants them to rise.
    coarse = np.interp(_COARSE_BITS, curve.bits[::-1], np.log10(curve.noise)[::-1])
    bits = float(np.interp(np.log(asked), np.log(curve.asked), curve.bits))
    return LayerRow(weight.layer, weight.info.op_type, weight.info.num_elements, float(10 * np.log10(sensitivity)), float(-10 * (np.log10(sensitivity) + coarse)), bits)
