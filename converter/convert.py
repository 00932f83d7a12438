"""The pipeline: read -> plan -> encode -> rewrite -> write -> check -> rename. Data flows one way, and the output appears only when the check has passed.

Memory: the model is mapped, not read, and weights are encoded one after the other; what adds up is only the packed weights.
"""

import contextlib
import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping

from tflite_smart import __version__
from tflite_smart.converter import accuracy, check, from_keras, layer_statistics, model_writer, pieces, search, sequential, unknown_fields
from tflite_smart.converter.budget_search import MOST_BUDGET
from tflite_smart.converter.candidates import Candidates
from tflite_smart.converter.compress import TensorSettings
from tflite_smart.converter.encoding import Encoded, encode_and_release, leave_little, leave_slow, plan
from tflite_smart.converter.errors import TargetError, TFLiteSmartError, UnsupportedModelError
from tflite_smart.converter.format import Quantized
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.notebook import Notebook
from tflite_smart.converter.passes.base import Encoding
from tflite_smart.converter.recipe import SmartConfig, resolve
from tflite_smart.converter.report import ConversionReport, TensorRow, Trial
from tflite_smart.converter.rewrite import is_smart, rewrite
from tflite_smart.converter.selection import LeftAlone

# How far below its target an output may be measured before it is worth a word; single measurements scatter by as much.
_MISSED_DB = 3.0
# Candidates tell the size to a fraction of a percent; this many corrections bring a file under its target.
_MAX_CORRECTIONS = 6

Progress = Callable[[str, int, int], None]


def convert(
    model: object,
    recipe: object = None,
    calibration_data: object = None,
    output: str | os.PathLike | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    evaluation_data: Mapping | None = None,
    work_folder: str | os.PathLike | None = None,
) -> ConversionReport:
    """Compresses a model.

    Args:
        model: path of a .tflite, .keras or .h5 file or of a SavedModel folder; the bytes of a .tflite; or a Keras 3 or tf_keras model.
        recipe: a name, a .json file, a mapping or a `SmartConfig`; None is `lossless_accuracy`. It holds the target: `{"target_size_bytes": 2000000}`, see `SmartConfig`.
        calibration_data: sample inputs, unlabelled, some hundred of them; an array, or input name -> array, first axis = samples. The rounding then minimises the error of
            every layer's output on them instead of that of its weights, layer after layer, each behind the rounded ones before it, and the bits go where they count on them,
            which reaches the same fidelity with fewer bits. The shipped recipes work without.
        output: where the result goes; None keeps nothing and reports what would come out.
        overwrite: replace an existing output.
        progress: called with (phase, done, total).
        evaluation_data: labelled samples for `target_max_drop`: input name (or x) -> samples, y -> labels.
        work_folder: where to keep what is measured until the conversion is done; one of the same model, recipe and data that was interrupted goes on from it.

    Returns:
        What was done with every tensor, and every budget that was tried.

    Raises:
        TFLiteSmartError: see `errors`; `TargetError` for a target out of reach. The output is then as it was before.
    """
    config, clock = resolve(recipe), Clock(progress)
    if output is not None:
        model_writer.check_output(os.fspath(output), overwrite)
    with tempfile.TemporaryDirectory(prefix="tflite_smart_") as folder:
        with clock.phase("read", 1):
            source, notes, trained = as_tflite(model, folder)
            original = Model.read(source)
        if is_smart(original):
            raise UnsupportedModelError(f"{source_name(model)}: model must not be compressed yet. Received: one with TFLiteSmart operators. Run `tflite_smart expand` on it first.")
        notebook = Notebook.about(work_folder, source, config, calibration_data, evaluation_data, __version__)
        job = Job(source, config, calibration_data, folder, clock, trained, notebook)
        factors = look_at_inputs(job, original, notes) if calibration_data is not None else None
        fidelity = _search(job, factors, evaluation_data)
        notes += [fidelity.note] if fidelity.note else []
        notes += [f"kept without knowing its meaning: {field}" for field in unknown_fields.describe(original.unknown)]
        written = _write_on_target(job, fidelity)
        if written.size >= original.file_bytes:
            written, fidelity = _nothing_packed(written, job, original.file_bytes), search.Fidelity(fidelity.error_budget)
            notes.append("nothing was packed: the output is the model as it was, and needs no delegate")
        snr, measured_on = _measure(fidelity, written.path, job, notes)
        trials = _with_result(fidelity, written, snr)
        if output is not None:
            model_writer.copy(written.path, os.fspath(output), overwrite)
        notebook.close()
    rows = [_row(entry, written.runs_as.get(entry.weight.buffer, "")) for entry in written.encoded] + [_left_alone_row(entry) for entry in written.left_alone]
    return ConversionReport(
        source_name(model), None if output is None else os.fspath(output), config.name, rows, original.file_bytes, written.size, dict(clock.seconds), notes,
        fidelity.error_budget, snr, measured_on, config.targets, trials, fidelity.float_top1,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Written:
    """A finished file and what is in it. `path` holds the bytes of a model that came as bytes and was left as it was."""

    path: str | os.PathLike | bytes
    size: int
    encoded: list[Encoded]
    left_alone: list[LeftAlone]
    runs_as: dict[int, str]

    def figure(self, field: str) -> float:
        """What a target of size is compared with."""
        blobs = [entry for entry in self.encoded if entry.blob]
        return self.size if field == "target_size_bytes" else 8 * sum(len(entry.blob) for entry in blobs) / max(self.num_packed, 1)

    @property
    def num_packed(self) -> int:
        return sum(entry.weight.info.num_elements for entry in self.encoded if entry.blob)


def _write_on_target(job: "Job", fidelity: search.Fidelity) -> _Written:
    """Encodes and writes with the budget that was found; a file that came out over a target of size is made again with a larger one."""
    written = _write(job, fidelity)
    for field, target in job.config.targets.items():
        if field not in ("target_size_bytes", "target_bits_per_weight"):
            continue
        for attempt in range(1, _MAX_CORRECTIONS + 1):
            if written.figure(field) <= target:
                break
            excess = written.figure(field) - target
            bits = excess if field == "target_bits_per_weight" else 8 * excess / max(written.num_packed, 1)
            # A hundredth of a bit more each time, as the allocation moves in small steps and might not move at all.
            fidelity.error_budget = min(fidelity.error_budget * 4 ** (bits + 0.01 * attempt), MOST_BUDGET)
            written = _write(job, fidelity)
        if written.figure(field) > target:
            raise TargetError(f"recipe {job.config.name}: {field} must be at least {written.figure(field):g} for this model. Received: {field}={target:g}. Aim higher.")
    return written


def _write(job: "Job", fidelity: search.Fidelity) -> _Written:
    model, path = Model.read(job.source), os.path.join(job.folder, "smart.tflite")
    planned, left_alone = plan(model, dataclasses.replace(job.config, error_budget=fidelity.error_budget), fidelity.candidates.factors, fidelity.facts, job.trained)
    pair = _pair(job) if fidelity.candidates.factors is not None and job.calibration_data is not None else None
    with job.clock.phase("encode", len(planned)) as step:
        if pair is not None:
            encoded = sequential.encode(model, planned, pair, step)
        else:
            encoded = [step(encode_and_release(model, entry, fidelity.candidates.rounded(index, entry.decision))) for index, entry in enumerate(planned)]
    encoded = leave_little(leave_slow(encoded, planned), planned)
    runs_as = _write_checked(model, [entry for entry in encoded if entry.blob], path, job)
    return _Written(path, os.path.getsize(path), encoded, left_alone, runs_as)


def _pair(job: "Job") -> pieces.Pair | None:
    """The model twice, on the calibration data; None where it can't be cut in pieces."""
    try:
        return pieces.Pair(job.source, layer_statistics.samples(job.source, job.calibration_data), job.folder)
    except pieces.Unsuitable:
        return None


def _nothing_packed(written: _Written, job: "Job", size: int) -> _Written:
    encoded = [Encoded(entry.weight, skipped=entry.skipped or "the whole file would not shrink") for entry in written.encoded]
    return _Written(job.source, size, encoded, written.left_alone, {})


def _with_result(fidelity: search.Fidelity, written: _Written, snr: float | None) -> list[Trial]:
    """The trials, the one that was chosen with the figures of the finished file."""
    if not fidelity.trials:
        return []
    others = [trial for trial in fidelity.trials if trial.error_budget != fidelity.error_budget]
    top1 = next((trial.top1 for trial in fidelity.trials if trial.error_budget == fidelity.error_budget), None)
    return [*others, Trial(fidelity.error_budget, written.size, written.figure("target_bits_per_weight"), snr, top1)]


def look_at_inputs(job: "Job", model: Model, notes: list[str]) -> layer_statistics.Factors | None:
    """What the calibration data say of every layer's inputs, or None with a note where the model can't be run on them."""
    weights = [entry.weight for entry in plan(model, job.config)[0] if isinstance(entry.decision, TensorSettings)]
    with job.clock.phase("calibrate", len(weights)) as step:
        try:
            return layer_statistics.collect(job.source, model, weights, job.calibration_data, job.notebook.folder or job.folder, step)
        except TFLiteSmartError:
            raise
        except (RuntimeError, ValueError) as error:
            notes.append(f"calibration data were not used for rounding: {str(error).strip().splitlines()[0]}")
            return None


def _search(job: "Job", factors: layer_statistics.Factors | None, evaluation_data: Mapping | None) -> search.Fidelity:
    """The error budget for the recipe's target, from candidates that are written, run and thrown away; the recipe's own where it has no target, or no weight to spend it on."""
    candidates = Candidates(job.source, job.config, factors, os.path.join(job.folder, "candidate.tflite"))
    if not job.config.targets or not any(candidates.tunable):
        return search.Fidelity(job.config.error_budget, candidates=candidates)
    labelled = accuracy.labelled(evaluation_data) if evaluation_data is not None else None
    searcher = search.Search(job.source, job.config, candidates, job.calibration_data, labelled, job.notebook)
    with job.clock.phase("measure layers", searcher.num_layer_steps) as step:
        searcher.look(step)
    with job.clock.phase("search", searcher.num_budgets) as step:
        return searcher.run(step)


def _write_checked(model: Model, packed: list[Encoded], path: str, job: "Job") -> dict[int, str]:
    """Rewrites the model, writes it and decodes everything again; returns for every packed buffer the operators of ours that read it."""
    with job.clock.phase("write", 1):
        rewritten = rewrite(model, [(entry.weight, entry.blob, _encoding(entry)) for entry in packed], job.config)

    def check_written(written: str) -> None:
        with job.clock.phase("check", len(packed)) as step:
            check.check_file(written, packed, rewritten, step)

    model.write(path, overwrite=True, check=check_written)
    return rewritten.runs_as


def _measure(fidelity: search.Fidelity, path, job: "Job", notes: list[str]) -> tuple[float | None, str]:
    """Output SNR of the written model in dB and the inputs it was measured on, where there is a probe to tell; a miss becomes a note."""
    if fidelity.probe is None:
        return None, ""
    with job.clock.phase("measure result", 1):
        snr = fidelity.probe.snr_db(path)
    target, inputs = job.config.target_snr_db, fidelity.probe.inputs_name
    if math.isnan(snr):
        notes.append("output fidelity could not be measured: the outputs are not finite on any inputs that were tried. Give calibration data")
    elif target is not None and snr < target - _MISSED_DB:
        notes.append(f"the outputs are at {snr:.1f} dB ({inputs}) and not at the {target:g} dB that the recipe asks for: 8-bit ids, an outlier, or made-up inputs that do not suit the model. Give calibration data, or check with verify")
    return (snr if math.isfinite(snr) else None), inputs


def as_tflite(model: object, folder: str) -> tuple[str | os.PathLike | bytes, list[str], tuple[Quantized, ...]]:
    """Path or bytes of a .tflite, notes on how it came about, and what a training of ours handed over of its weights."""
    if not from_keras.is_keras_source(model):
        return model, [], ()
    result = from_keras.to_tflite(model, folder)
    return result.path, list(result.notes), result.trained


def source_name(model: object) -> str:
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    return f"{len(model)} bytes" if isinstance(model, (bytes, bytearray, memoryview)) else getattr(model, "name", type(model).__name__)


def _encoding(entry: Encoded) -> Encoding:
    return Encoding(entry.weight.info.axis, entry.compute, entry.relative_error)


def _row(entry: Encoded, runs_as: str) -> TensorRow:
    info, before = entry.weight.info, entry.weight.stored.nbytes
    return TensorRow(
        info.names[0], entry.weight.layer, info.op_type, info.shape, entry.weight.stored.dtype.name, before, len(entry.blob) or before,
        entry.codec, entry.value_kind, entry.bits_per_weight, entry.max_error, entry.relative_error, entry.skipped, runs_as,
    )  # fmt: skip


def _left_alone_row(entry: LeftAlone) -> TensorRow:
    return TensorRow(entry.name, entry.layer, entry.op_type, entry.shape, entry.dtype, entry.stored_bytes, entry.stored_bytes, skipped=entry.reason)


@dataclasses.dataclass(frozen=True)
class Job:
    """What all phases of one conversion share. `source` is the .tflite as path or bytes, `folder` is for intermediate files, `trained` of `from_keras`, `notebook` for what takes long to measure."""

    source: str | os.PathLike | bytes
    config: SmartConfig
    calibration_data: object
    folder: str
    clock: "Clock"
    trained: tuple[Quantized, ...] = ()
    notebook: Notebook = Notebook()


class Clock:
    """Times the phases and reports their progress."""

    def __init__(self, progress: Progress | None):
        self.progress = progress or (lambda phase, done, total: None)
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable]:
        """Yields a function to pass every finished item through."""
        start, done = time.perf_counter(), 0
        self.progress(name, 0, total)

        def step(item):
            nonlocal done
            done += 1
            self.progress(name, min(done, total), total)
            return item

        yield step
        if done < total:
            self.progress(name, total, total)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
