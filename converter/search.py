"""Chooses the error budget that gives the model what a recipe asks for, by writing and running candidates on LiteRT."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping

import numpy as np
from ai_edge_litert import interpreter as litert

from tflite_smart.converter import accuracy, activity, budget_search, calibration, sensitivity, synthetic
from tflite_smart.converter.allocate import LayerFacts
from tflite_smart.converter.candidates import Candidates
from tflite_smart.converter.errors import InputError, TargetError
from tflite_smart.converter.notebook import Notebook
from tflite_smart.converter.probe import Belief, Probe
from tflite_smart.converter.recipe import SmartConfig
from tflite_smart.converter.report import Trial
from tflite_smart.delegates import native

# Many small runs are more precise; models above this size are measured on fewer inputs to keep conversions short. They are also compared with their own
# finest compressed form, 8 bits per weight, instead of the original: LiteRT would unpack that a second time, and a conversion must not need several times the model's
# size. What the 8 bits lose lies far below any target, unless outliers spoil them: then the original it is.
_LARGE_MODEL_BYTES = 32 << 20
_FINE_ENOUGH = 0.04  # relative error of the worst weight in that form: 28 dB below the weights


@dataclasses.dataclass(frozen=True)
class _Effort:
    """How many made-up samples, budgets and groups of layers are measured, and how often all groups together; on how many made-up samples the layers' inputs are looked at."""

    samples: int
    budgets: int
    groups: int
    measurements: int
    looked_at: int


_LOOKED_AT_SEED = 1  # other samples than the probe's
_MORE_BUDGETS = 4  # where one number is bisected instead of a law followed
_USUAL, _LARGE = _Effort(12, 6, 64, 96, 64), _Effort(3, 2, 10, 10, 0)


@dataclasses.dataclass
class Fidelity:
    """Outcome of a search.

    Attributes:
        error_budget: the one to convert with.
        facts: what was found out about the layers, see `sensitivity`; None where they could not be measured.
        candidates: the last that was written, and what is known of the layers' inputs.
        probe: measures the result, or None where the model could not be run.
        trials: every budget that was tried.
        float_top1: of the original on the labelled data, where there are any.
        note: why nothing was measured, or empty.
    """

    error_budget: float
    facts: list[LayerFacts | None] | None = None
    candidates: Candidates | None = None
    probe: Probe | None = None
    trials: list[Trial] = dataclasses.field(default_factory=list)
    float_top1: float | None = None
    note: str = ""


class Search:
    """One model's search.

    Args:
        source: path or bytes of the original .tflite; file_bytes: its size.
        config: the recipe with the target.
        candidates: writes what is measured.
        data: calibration inputs, or None for made-up ones.
        labelled: samples and labels for a target of accuracy, or None.
        notebook: keeps what was measured.

    Attributes:
        result: what is known so far. num_layer_steps, num_budgets: how often `look` and `run` call `step`, at most.
    """

    def __init__(self, source, config: SmartConfig, candidates: Candidates, data, labelled: accuracy.Labelled | None = None, notebook: Notebook = Notebook()):
        self._source, self._config, self._candidates, self._data, self._labelled = source, config, candidates, data, labelled
        self._notebook = notebook
        size = os.path.getsize(source) if isinstance(source, (str, os.PathLike)) else len(source)
        self._large = size > _LARGE_MODEL_BYTES
        self._effort = _LARGE if self._large else _USUAL
        self._groups = sensitivity.groups(candidates, self._effort.groups)
        self.num_layer_steps, self.num_budgets = len(self._groups) + 1, self._effort.budgets + (0 if config.target_snr_db else _MORE_BUDGETS)
        self.result, self._step = Fidelity(config.error_budget, candidates=candidates), lambda item: item

    def look(self, step: Callable = lambda item: item) -> None:
        """Opens the probe and measures the layers. A model that can't be run, or a library that is not there, becomes a note.

        Args:
            step: called after every measurement, for progress.

        Raises:
            InputError: the calibration data do not fit the model.
        """
        try:
            interpreter = open_interpreter(self._source)
            details, signature = interpreter.get_input_details(), calibration.signature_names(interpreter)
        except (RuntimeError, ValueError, native.DelegateLibraryError) as error:
            self.result.note = _note(error)
            return
        inputs = calibration.samples(details, self._data, signature=signature) if self._data is not None else None
        try:
            reference = self._reference()
            rate = lambda sets: activity.undecided_bits(open_interpreter, reference, sets)  # noqa: E731
            exact = lambda model: open_interpreter(model, compute="f32")  # noqa: E731
            probe = self.result.probe = Probe(open_interpreter, reference, inputs, self._effort.samples, exact, rate)
            probe.settle(self._candidates.fine_copy(sensitivity.FINEST).path)
            if probe.belief is Belief.ACTIVITY and self._effort.looked_at:
                self._look_at_made_up_inputs(probe, details)
            if probe.belief is Belief.DISTURBANCE:
                probe.snr_db(self._candidates.dealt(self._config.error_budget).path)
            self.result.facts = sensitivity.measure(self._candidates, probe, self._groups, self._effort.measurements, step, self._notebook)
        except (RuntimeError, ValueError) as error:
            self.result.probe, self.result.note = None, _note(error)

    def _look_at_made_up_inputs(self, probe: Probe, details: list[Mapping]) -> None:
        samples = dict(zip(synthetic.RANGES, synthetic.synthetic_inputs(details, self._effort.looked_at, _LOOKED_AT_SEED)))[probe.inputs_name]
        data = {detail["name"]: np.concatenate([sample[index] for sample in samples]) for index, detail in enumerate(details)}
        self._candidates.look_at_inputs(data)

    def run(self, step: Callable = lambda item: item) -> Fidelity:
        """Searches for the recipe's target.

        Args:
            step: called with every trial, for progress.

        Raises:
            TargetError: it can't be reached.
            InputError: the labelled data do not fit the model.
        """
        config, self._step = self._config, step
        if config.target_size_bytes is not None:
            self.result.error_budget = self._smallest_budget(lambda trial: trial.file_bytes, config.target_size_bytes, "target_size_bytes")
        elif config.target_bits_per_weight is not None:
            self.result.error_budget = self._smallest_budget(lambda trial: trial.bits_per_weight, config.target_bits_per_weight, "target_bits_per_weight")
        elif config.target_max_drop is not None:
            self.result.error_budget = self._within_drop(config.target_max_drop)
        elif self.result.probe is not None:
            self._reach_snr(config.target_snr_db)
        return self.result

    def try_budget(self, budget: float, with_snr: bool = False, with_top1: bool = False) -> Trial:
        """Writes the candidate of a budget and measures it; the trial is kept."""
        measured = self._notebook.remembered(f"budget {budget}", lambda: dataclasses.asdict(self._measure(budget, with_snr, with_top1)))
        trial = Trial(**measured)
        self.result.trials.append(trial)
        self._step(trial)
        return trial

    def _measure(self, budget: float, with_snr: bool, with_top1: bool) -> Trial:
        candidate = self._candidates.dealt(budget, self.result.facts)
        snr = self.result.probe.snr_db(candidate.path) if with_snr and self.result.probe else math.nan
        top1 = accuracy.top1(open_interpreter(candidate.path), self._labelled) if with_top1 else None
        return Trial(budget, candidate.file_bytes, candidate.bits_per_weight, snr if math.isfinite(snr) else None, top1)

    def _reference(self):
        """What candidates are compared with: the original, or for large models their finest form."""
        if not self._large:
            return self._source
        finest = self._candidates.with_errors({}, sensitivity.FINEST)
        return finest.path if max(finest.errors, default=0.0) <= _FINE_ENOUGH else self._source

    def _start(self) -> float:
        """Where to begin: with sensitivities a budget is the expected noise-to-signal ratio of the outputs."""
        target = self._config.target_snr_db
        return 10 ** (-target / 10) if self.result.facts and target else self._config.error_budget

    def _reach_snr(self, target_db: float) -> None:
        measured = lambda budget: self.try_budget(budget, with_snr=True).output_snr_db  # noqa: E731
        finite = lambda value: math.nan if value is None else value  # noqa: E731
        try:
            self.result.error_budget = budget_search.search_budget(lambda budget: finite(measured(budget)), target_db, self._start(), self._effort.budgets)
        except (RuntimeError, ValueError) as error:
            self.result.probe, self.result.note = None, _note(error)

    def _smallest_budget(self, figure: Callable[[Trial], float], target: float, field: str) -> float:
        budget = budget_search.search_size(lambda budget: figure(self.try_budget(budget)), target, self._start(), self.num_budgets - 1)
        if budget is None:
            coarsest = self.result.trials[0]
            rest = coarsest.file_bytes - round(coarsest.bits_per_weight * self._candidates.num_elements / 8)
            raise TargetError(
                f"recipe {self._config.name}: {field} must be at least {math.ceil(figure(coarsest) * 100) / 100:g} for this model. Received: {field}={target:g}. "
                f"At the coarsest setting the weights take {coarsest.bits_per_weight:.2f} bits each, and what can't be packed {rest} bytes. Aim higher."
            )
        return budget

    def _within_drop(self, points: float) -> float:
        if self._labelled is None:
            raise InputError(f"evaluation_data must be given with target_max_drop. Received: none. Give {{'x': samples, 'y': labels}} (--data X.npz), or aim at target_snr_db.")
        self.result.float_top1 = accuracy.top1(open_interpreter(self._source), self._labelled)

        def good(budget: float) -> bool:
            trial = self.try_budget(budget, with_snr=True, with_top1=True)
            return 100 * (self.result.float_top1 - trial.top1) <= points + 1e-9

        budget = budget_search.search_coarsest(good, self._start(), self.num_budgets)
        if budget is None:
            best = max(self.result.trials, key=lambda trial: trial.top1)
            raise TargetError(
                f"recipe {self._config.name}: target_max_drop must be at least {100 * (self.result.float_top1 - best.top1):.2f} points for this model on these data. "
                f"Received: target_max_drop={points:g}. The best of {len(self.result.trials)} tries has {100 * best.top1:.2f} % of {100 * self.result.float_top1:.2f} %. Allow more, or give calibration data."
            )
        return budget


def open_interpreter(model, compute: str = "auto", keep_tensors: bool = False):
    """An unallocated LiteRT interpreter, our delegate loaded, of a path or of bytes.

    Args:
        compute: `auto` as the operators ask for, or `f32`, exact.
        keep_tensors: every tensor can be read after a run; XNNPACK, which would hide those between its operators, is then left out.
    """
    threads = min(2, os.cpu_count() or 1)
    delegates = [litert.load_delegate(native.library_path(), {"num_threads": threads, "compute": compute})]
    where = {"model_path": os.fspath(model)} if isinstance(model, (str, os.PathLike)) else {"model_content": bytes(model)}
    kept = {"experimental_preserve_all_tensors": True, "experimental_op_resolver_type": litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES} if keep_tensors else {}
    return litert.Interpreter(**where, experimental_delegates=delegates, num_threads=threads, **kept)


def _note(error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"output fidelity was not measured, so the recipe's own error budget was used: {reason}"
