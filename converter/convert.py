"""The pipeline: read -> plan -> encode -> rewrite -> write -> check -> rename. Data flows one way, and the output appears only when the check has passed.

Memory: the model is mapped, not read, and weights are encoded one after the other; what adds up is only the packed weights.
"""

import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator

from tflite_smart.converter import check, from_keras, model_writer, unknown_fields
from tflite_smart.converter.allocate import Skip, allocate
from tflite_smart.converter.compress import TensorSettings, compress_tensor
from tflite_smart.converter.errors import UnsupportedModelError
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.passes.base import Encoding
from tflite_smart.converter.recipe import SmartConfig, resolve
from tflite_smart.converter.report import ConversionReport, TensorRow
from tflite_smart.converter.rewrite import is_smart, rewrite
from tflite_smart.converter.selection import LeftAlone, Weight, find_weights

# What an operator of ours adds to the file: its own table and options, and the tables of a tensor. A weight must gain more than that.
_OPERATOR_BYTES = 320

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Planned:
    """The decision for one weight: settings to pack it with, or why not."""

    weight: Weight
    decision: TensorSettings | Skip


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
        calibration_data: sample inputs; the shipped recipes work without.
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
        target = os.path.join(folder, "smart.tflite") if output is None else os.fspath(output)
        planned, left_alone = plan(editable, config)
        with clock.phase("encode", len(planned)) as step:
            encoded = [step(encode(entry)) for entry in planned]
        packed = [entry for entry in encoded if entry.blob]
        with clock.phase("write", 1):
            runs_as = rewrite(editable, [(entry.weight, entry.blob, _encoding(entry)) for entry in packed], config.name)

        def check_written(path: str) -> None:
            with clock.phase("check", len(packed)) as step:
                check.check_file(path, packed, step)

        notes += [f"kept without knowing its meaning: {field}" for field in unknown_fields.describe(editable.unknown)]
        size = editable.write(target, overwrite, check_written)
    rows = [_row(entry, runs_as.get(entry.weight.buffer, "")) for entry in encoded] + [_left_alone_row(entry) for entry in left_alone]
    return ConversionReport(
        _source_name(model), None if output is None else os.fspath(output), config.name, rows, editable.file_bytes, size, dict(clock.seconds), notes
    )


def plan(model: Model, config: SmartConfig) -> tuple[list[Planned], list[LeftAlone]]:
    """What to do with every weight, and which constants can't be packed at all."""
    weights, left_alone = find_weights(model)
    decisions = allocate([weight.info for weight in weights], config)
    return [Planned(weight, decision) for weight, decision in zip(weights, decisions)], left_alone


def encode(planned: Planned) -> Encoded:
    """Packs one weight, unless the plan or its size say otherwise."""
    weight, settings = planned.weight, planned.decision
    if isinstance(settings, Skip):
        return Encoded(weight, skipped=settings.reason)
    try:
        result = compress_tensor(weight.values(), weight.info.axis, settings)
    except ValueError as error:
        return Encoded(weight, skipped=str(error).rstrip("."))
    size = len(result.blob) + _OPERATOR_BYTES * len(weight.sites)
    if size >= weight.stored.nbytes:
        return Encoded(weight, skipped=f"would not shrink: {size} bytes packed, {weight.stored.nbytes} now")
    digest = check.expected_digest(result.blob, result.ids, weight.info.shape, weight.info.axis)
    return Encoded(weight, result.blob, result.codec, result.value_kind, result.bits_per_weight, result.max_error, result.relative_error, digest)


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
    return Encoding(entry.codec, entry.bits_per_weight, entry.weight.info.axis)


def _row(entry: Encoded, runs_as: str) -> TensorRow:
    info, before = entry.weight.info, entry.weight.stored.nbytes
    return TensorRow(
        info.names[0], entry.weight.layer, info.op_type, info.shape, entry.weight.stored.dtype.name, before, len(entry.blob) or before,
        entry.codec, entry.value_kind, entry.bits_per_weight, entry.max_error, entry.relative_error, entry.skipped, runs_as,
    )  # fmt: skip


def _left_alone_row(entry: LeftAlone) -> TensorRow:
    return TensorRow(entry.name, entry.layer, entry.op_type, entry.shape, entry.dtype, entry.stored_bytes, entry.stored_bytes, skipped=entry.reason)


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
