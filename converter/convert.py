"""The pipeline: read -> plan -> encode -> rewrite -> write -> check -> rename. Data flows one way, and the output appears only when the check has passed.

Memory: the model is mapped, not read, and weights are encoded one after the other; what adds up is only the packed weights.
"""

import contextlib
import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator

from tflite_smart.converter import check, from_keras, layer_statistics, model_writer, search, unknown_fields
from tflite_smart.converter.allocate import Skip, allocate
from tflite_smart.converter.compress import TensorSettings, compress_tensor
from tflite_smart.converter.errors import TFLiteSmartError, UnpackableWeightError, UnsupportedModelError
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.passes.base import Encoding
from tflite_smart.converter.recipe import SmartConfig, resolve
from tflite_smart.converter.report import ConversionReport, TensorRow
from tflite_smart.converter.rewrite import is_smart, rewrite
from tflite_smart.converter.selection import LeftAlone, Weight, find_weights

# What an operator of ours adds to the file: its table and options, the table of a tensor, padding. A weight must gain more than that for every operator.
_OPERATOR_BYTES = 256
# How far below its target an output may be measured before it is worth a word; single measurements scatter by as much.
_MISSED_DB = 3.0

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Planned:
    """The decision for one weight: settings to pack it with, or why not; and what is known of its inputs."""

    weight: Weight
    decision: TensorSettings | Skip
    factors: layer_statistics.Factors | None = None


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One weight after encoding; `blob` is empty and `skipped` says why where it is left alone. `digest` is that of the values to decode to."""

    weight: Weight
    blob: bytes = b""
    codec: str = ""
    value_kind: str = ""
    bits_per_weight: float = 0.0
    max_error: float = 0.0
    relative_error: float = 0.0
    digest: bytes = b""
    skipped: str = ""
    compute: str | None = None


def convert(
    model: object,
    recipe: object = None,
    calibration_data: object = None,
    output: str | os.PathLike | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ConversionReport:
    """Compresses a model.

    Args:
        model: path of a .tflite, .keras or .h5 file or of a SavedModel folder; the bytes of a .tflite; or a Keras 3 or tf_keras model.
        recipe: a name, a .json file, a mapping or a `SmartConfig`; None is `lossless_accuracy`.
        calibration_data: sample inputs, unlabelled, some hundred of them; an array, or input name -> array, first axis = samples. The rounding then minimises the error of
            every layer's output on them instead of that of its weights, which reaches the same fidelity with fewer bits. The shipped recipes work without.
        output: where the result goes; None keeps nothing and reports what would come out.
        overwrite: replace an existing output.
        progress: called with (phase, done, total).

    Returns:
        What was done with every tensor.

    Raises:
        TFLiteSmartError: see `errors`. The output is then as it was before.
    """
    config, clock = resolve(recipe), _Clock(progress)
    if output is not None:
        model_writer.check_output(os.fspath(output), overwrite)
    with tempfile.TemporaryDirectory(prefix="tflite_smart_") as folder:
        with clock.phase("read", 1):
            source, notes = _as_tflite(model, folder)
            editable = Model.read(source)
        if is_smart(editable):
            raise UnsupportedModelError(f"{_source_name(model)}: model must not be compressed yet. Received: one with TFLiteSmart operators. Run `tflite_smart expand` on it first.")
        job = _Job(source, config, calibration_data, folder, clock)
        factors = _look_at_inputs(job, editable, notes) if calibration_data is not None else None
        fidelity = _search(job, editable.file_bytes, factors) if _has_target(editable, config) else None
        if fidelity is not None:
            config = dataclasses.replace(config, error_budget=fidelity.error_budget)
            notes += [fidelity.note] if fidelity.note else []
        planned, left_alone = plan(editable, config, factors)
        with clock.phase("encode", len(planned)) as step:
            encoded = [step(_encode_and_release(editable, entry)) for entry in planned]
        notes += [f"kept without knowing its meaning: {field}" for field in unknown_fields.describe(editable.unknown)]
        result = os.path.join(folder, "smart.tflite")
        runs_as = _write_checked(editable, [entry for entry in encoded if entry.blob], result, job)
        if os.path.getsize(result) >= editable.file_bytes:
            encoded, runs_as, fidelity = [_without_gain(entry) for entry in encoded], {}, None
            notes.append("nothing was packed: the output is the model as it was, and needs no delegate")
            result = source
        snr, measured_on = _measure(fidelity, result, job, notes)
        size = editable.file_bytes if result is source else os.path.getsize(result)
        if output is not None:
            model_writer.copy(result, os.fspath(output), overwrite)
    rows = [_row(entry, runs_as.get(entry.weight.buffer, "")) for entry in encoded] + [_left_alone_row(entry) for entry in left_alone]
    return ConversionReport(
        _source_name(model), None if output is None else os.fspath(output), config.name, rows, editable.file_bytes, size, dict(clock.seconds), notes, config.error_budget, snr, measured_on
    )


def plan(model: Model, config: SmartConfig, factors: layer_statistics.Factors | None = None) -> tuple[list[Planned], list[LeftAlone]]:
    """What to do with every weight, and which constants can't be packed at all."""
    weights, left_alone = find_weights(model)
    decisions = allocate([weight.info for weight in weights], config)
    return [Planned(weight, decision, factors) for weight, decision in zip(weights, decisions)], left_alone


def _has_target(model: Model, config: SmartConfig) -> bool:
    """Whether there is a fidelity to aim at and a float weight that the budget decides on."""
    return config.target_snr_db is not None and any(
        isinstance(entry.decision, TensorSettings) and entry.decision.buckets not in ("integer", "binary") for entry in plan(model, config)[0]
    )


def _look_at_inputs(job: "_Job", model: Model, notes: list[str]) -> layer_statistics.Factors | None:
    """What the calibration data say of every layer's inputs, or None with a note where the model can't be run on them."""
    weights = [entry.weight for entry in plan(model, job.config)[0] if isinstance(entry.decision, TensorSettings)]
    with job.clock.phase("calibrate", len(weights)) as step:
        try:
            return layer_statistics.collect(job.source, model, weights, job.calibration_data, job.folder, step)
        except TFLiteSmartError:
            raise
        except (RuntimeError, ValueError) as error:
            notes.append(f"calibration data were not used for rounding: {str(error).strip().splitlines()[0]}")
            return None


def _search(job: "_Job", file_bytes: int, factors: layer_statistics.Factors | None) -> search.Fidelity:
    """The error budget for the recipe's target, from candidates that are written, run and thrown away."""
    path = os.path.join(job.folder, "candidate.tflite")

    def write_candidate(candidate: SmartConfig) -> search.Candidate:
        model = Model.read(job.source)
        planned, _ = plan(model, candidate, factors)
        decisions = search.fast_settings([entry.decision for entry in planned])
        encoded = [_encode_and_release(model, dataclasses.replace(entry, decision=decision)) for entry, decision in zip(planned, decisions)]
        rewrite(model, [(entry.weight, entry.blob, _encoding(entry)) for entry in encoded if entry.blob], candidate.name)
        model.write(path, overwrite=True)
        return search.Candidate(path, max((entry.relative_error for entry in encoded), default=0.0))

    with job.clock.phase("measure fidelity", search.num_measurements(file_bytes)) as step:
        return search.find_budget(job.source, file_bytes, job.config, job.calibration_data, write_candidate, step)


def _write_checked(model: Model, packed: list[Encoded], path: str, job: "_Job") -> dict[int, str]:
    """Rewrites the model, writes it and decodes everything again; returns for every packed buffer the operators of ours that read it."""
    with job.clock.phase("write", 1):
        runs_as = rewrite(model, [(entry.weight, entry.blob, _encoding(entry)) for entry in packed], job.config.name)

    def check_written(written: str) -> None:
        with job.clock.phase("check", len(packed)) as step:
            check.check_file(written, packed, step)

    model.write(path, overwrite=True, check=check_written)
    return runs_as


def _measure(fidelity: search.Fidelity | None, path: str, job: "_Job", notes: list[str]) -> tuple[float | None, str]:
    """Output SNR of the written model in dB and the inputs it was measured on, where there is a probe to tell; a miss becomes a note."""
    if fidelity is None or fidelity.probe is None:
        return None, ""
    with job.clock.phase("measure result", 1):
        snr = fidelity.probe.snr_db(path)
    target, inputs = job.config.target_snr_db, fidelity.probe.inputs_name
    if math.isnan(snr):
        notes.append("output fidelity could not be measured: the outputs are not finite on any inputs that were tried. Give calibration data")
    elif snr < target - _MISSED_DB:
        notes.append(f"the outputs are at {snr:.1f} dB ({inputs}) and not at the {target:g} dB that the recipe asks for: 8-bit ids, an outlier, or made-up inputs that do not suit the model. Give calibration data, or check with verify")
    return (snr if math.isfinite(snr) else None), inputs


def encode(planned: Planned) -> Encoded:
    """Packs one weight, unless the plan or its size say otherwise."""
    weight, settings = planned.weight, planned.decision
    if isinstance(settings, Skip):
        return Encoded(weight, skipped=settings.reason)
    try:
        factor = planned.factors.of(weight.buffer) if planned.factors else None
        result = compress_tensor(weight.values(), weight.info.axis, settings, factor)
    except UnpackableWeightError as error:
        return Encoded(weight, skipped=str(error).rstrip("."))
    size = len(result.blob) + _OPERATOR_BYTES * len(weight.sites)
    if size >= weight.stored.nbytes:
        return Encoded(weight, skipped=f"would not shrink: {size} bytes packed, {weight.stored.nbytes} now")
    digest = check.expected_digest(result.quantized, weight.info.shape, weight.info.axis)
    return Encoded(weight, result.blob, result.codec, result.value_kind, result.bits_per_weight, result.max_error, result.relative_error, digest, compute=settings.compute)


def _encode_and_release(model: Model, planned: Planned) -> Encoded:
    """Encodes one weight and gives the memory of the original's bytes back."""
    encoded = encode(planned)
    model.release()
    return encoded


def _without_gain(entry: Encoded) -> Encoded:
    return Encoded(entry.weight, skipped=entry.skipped or "the whole file would not shrink")


def _as_tflite(model: object, folder: str) -> tuple[str | os.PathLike | bytes, list[str]]:
    """Path or bytes of a .tflite, and notes on how it came about."""
    if not from_keras.is_keras_source(model):
        return model, []
    result = from_keras.to_tflite(model, folder)
    return result.path, list(result.notes)


def _source_name(model: object) -> str:
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    return f"{len(model)} bytes" if isinstance(model, (bytes, bytearray, memoryview)) else getattr(model, "name", type(model).__name__)


def _encoding(entry: Encoded) -> Encoding:
    return Encoding(entry.codec, entry.weight.info.axis, entry.compute)


def _row(entry: Encoded, runs_as: str) -> TensorRow:
    info, before = entry.weight.info, entry.weight.stored.nbytes
    return TensorRow(
        info.names[0], entry.weight.layer, info.op_type, info.shape, entry.weight.stored.dtype.name, before, len(entry.blob) or before,
        entry.codec, entry.value_kind, entry.bits_per_weight, entry.max_error, entry.relative_error, entry.skipped, runs_as,
    )  # fmt: skip


def _left_alone_row(entry: LeftAlone) -> TensorRow:
    return TensorRow(entry.name, entry.layer, entry.op_type, entry.shape, entry.dtype, entry.stored_bytes, entry.stored_bytes, skipped=entry.reason)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What all phases of one conversion share. `source` is the .tflite as path or bytes, `folder` is for intermediate files."""

    source: str | os.PathLike | bytes
    config: SmartConfig
    calibration_data: object
    folder: str
    clock: "_Clock"


class _Clock:
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
