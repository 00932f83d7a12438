"""Chooses the error budget that gives the model's outputs the fidelity that a recipe asks for, by running candidates on LiteRT."""

import dataclasses
import os
from collections.abc import Callable

from ai_edge_litert import interpreter as litert

from tflite_smart.converter import calibration
from tflite_smart.converter.allocate import Skip, TensorSettings
from tflite_smart.converter.probe import Probe, search_budget
from tflite_smart.converter.recipe import SmartConfig
from tflite_smart.delegates import native

# Many small runs are more precise; models above this size are measured on fewer inputs to keep conversions short. They are also compared with their own
# finest compressed form, 8 bits per weight, instead of the original: LiteRT would unpack that a second time, and a conversion must not need several times the model's
# size. What the 8 bits lose lies far below any target, unless outliers spoil them: then the original it is.
_LARGE_MODEL_BYTES = 32 << 20
_NUM_SAMPLES, _NUM_SAMPLES_LARGE = 12, 3
_FINEST_BUDGET = 1e-6
_FINE_ENOUGH = 0.04  # relative error of the worst weight in that form: 28 dB below the weights
_NUM_MEASUREMENTS, _NUM_MEASUREMENTS_LARGE = 6, 2


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model written to be measured: its file, and the largest relative error (rms over rms) among its float weights."""

    path: str
    worst_error: float


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """Outcome of a search.

    Attributes:
        error_budget: the one to convert with.
        probe: measures the result, or None where the model could not be run.
        note: why the budget is the recipe's own after all, or empty.
    """

    error_budget: float
    probe: Probe | None
    note: str = ""


def find_budget(source, file_bytes: int, config: SmartConfig, calibration_data, write_candidate: Callable[[SmartConfig], Candidate], step: Callable = lambda item: item) -> Fidelity:
    """The budget for which the outputs reach `config.target_snr_db`.

    Args:
        source: path or bytes of the original .tflite; file_bytes: its size.
        calibration_data: what the caller gave, or None for made-up inputs.
        write_candidate: converts with another configuration to a file that the next call may overwrite.
        step: called with every measurement, for progress.

    Raises:
        InputError: the calibration data do not fit the model.
    """
    large = file_bytes > _LARGE_MODEL_BYTES
    try:
        interpreter = open_interpreter(source)
        details, signature = interpreter.get_input_details(), calibration.signature_names(interpreter)
    except (RuntimeError, ValueError, native.DelegateLibraryError) as error:
        return Fidelity(config.error_budget, None, _note(error))
    inputs = calibration.samples(details, calibration_data, signature=signature) if calibration_data is not None else None
    try:
        candidate = lambda budget: write_candidate(dataclasses.replace(config, error_budget=budget))  # noqa: E731
        reference = source
        if large:
            finest = candidate(_FINEST_BUDGET)
            reference = finest.path if finest.worst_error <= _FINE_ENOUGH else source
        probe = Probe(open_interpreter, reference, inputs, _NUM_SAMPLES_LARGE if large else _NUM_SAMPLES, lambda model: open_interpreter(model, compute="f32"))

        def measure(budget: float) -> float:
            return step(probe.snr_db(candidate(budget).path))

        budget = search_budget(measure, config.target_snr_db, config.error_budget, num_measurements(file_bytes))
    except (RuntimeError, ValueError) as error:
        return Fidelity(config.error_budget, None, _note(error))
    return Fidelity(budget, probe)


def num_measurements(file_bytes: int) -> int:
    """How many times `find_budget` will call `step`."""
    return _NUM_MEASUREMENTS_LARGE if file_bytes > _LARGE_MODEL_BYTES else _NUM_MEASUREMENTS


def fast_settings(decisions: list[TensorSettings | Skip]) -> list[TensorSettings | Skip]:
    """The same values in the codec that is quickest to write and read: all that a candidate has to be."""
    return [decision if isinstance(decision, Skip) else dataclasses.replace(decision, codecs=("raw",)) for decision in decisions]


def open_interpreter(model, compute: str = "auto"):
    """An unallocated LiteRT interpreter, our delegate loaded, of a path or of bytes. `compute`: `auto` as the operators ask for, or `f32`, exact."""
    threads = min(2, os.cpu_count() or 1)
    delegates = [litert.load_delegate(native.library_path(), {"num_threads": threads, "compute": compute})]
    where = {"model_path": os.fspath(model)} if isinstance(model, (str, os.PathLike)) else {"model_content": bytes(model)}
    return litert.Interpreter(**where, experimental_delegates=delegates, num_threads=threads)


def _note(error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"output fidelity was not measured, so the recipe's own error budget was used: {reason}"
