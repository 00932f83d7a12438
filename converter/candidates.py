"""Models that are written to be measured and thrown away: all weights in codec `raw`, which is quick to write and has the same size whatever the settings are.

So only the first candidate is a whole conversion. Every later one packs the weights whose settings changed and puts their bytes over the old ones in the same file.
"""

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from tflite_smart.converter import layer_statistics, model_writer, rate_distortion
from tflite_smart.converter.allocate import MOST_FLOATS, TOO_SENSITIVE, LayerFacts, Skip, allocate, shares_budget
from tflite_smart.converter.compress import TensorSettings, choose_codec, compress_tensor
from tflite_smart.converter.encoding import counted_bytes
from tflite_smart.converter.errors import UnpackableWeightError
from tflite_smart.converter.format import PackedWeight, Quantized
from tflite_smart.converter.layer_statistics import Factors
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.passes.base import Encoding
from tflite_smart.converter.recipe import SmartConfig
from tflite_smart.converter.rewrite import rewrite
from tflite_smart.converter.selection import Weight, find_weights


_TYPICAL_ERROR = 0.1  # of weights, for the length of the biases beside them


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model written to be measured.

    Attributes:
        path: of its file, which the next candidate overwrites.
        file_bytes: about what the whole file would take after a real conversion.
        bits_per_weight: mean over the packed weights.
        errors: relative error (rms over rms) of each weight, in the order of `Candidates.weights`; 0 where it is not packed.
    """

    path: str
    file_bytes: int
    bits_per_weight: float
    errors: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class _Packed:
    """What is kept of a packed weight: where it lies in the file, how long it is, how long the real codec would make it, and its error."""

    start: int
    size: int
    real_bytes: float
    error: float


class Candidates:
    """Writes candidates for one model.

    Args:
        source: path or bytes of the original; config: the recipe; factors: of its layers' inputs, or None.
        path: where candidates are written.

    Attributes:
        weights: all that can be packed. tunable: which of them share the error budget. factors: see above.
    """

    def __init__(self, source, config: SmartConfig, factors: Factors | None, path: str):
        self._source, self._config, self.factors, self._path = source, config, factors, path
        self._model = Model.read(source)
        self.weights: list[Weight] = find_weights(self._model)[0]
        self.tunable = [shared and self._is_finite(weight) for shared, weight in zip(shares_budget([weight.info for weight in self.weights], config), self.weights)]
        self._decisions: list[TensorSettings | Skip] = [Skip("not yet written")] * len(self.weights)
        self._packed: list[_Packed | None] = [None] * len(self.weights)
        self._structure_bytes = 0

    def _is_finite(self, weight: Weight) -> bool:
        """Whether it is all numbers; others are left alone when they are encoded, and can't be measured."""
        try:
            return bool(np.isfinite([weight.stored.min(), weight.stored.max()]).all())
        finally:
            self._model.release()

    def look_at_inputs(self, made_up: Mapping[str, np.ndarray]) -> None:
        """From now on rounds with what made-up inputs tell of those of the layers; they are not kept from one conversion to the next."""
        weights = [weight for weight, tunable in zip(self.weights, self.tunable) if tunable]
        folder = tempfile.mkdtemp(dir=os.path.dirname(self._path))
        self.factors = layer_statistics.collect(self._source, self._model, weights, made_up, folder, made_up=True)
        self._decisions = [Skip("not yet written")] * len(self.weights)

    @property
    def num_elements(self) -> int:
        """Of the weights that are packed."""
        return sum(weight.info.num_elements for weight, entry in zip(self.weights, self._packed) if entry)

    def curve(self, index: int) -> rate_distortion.Curve:
        """Rate and distortion of a tunable weight."""
        weight, settings = self.weights[index], allocate([weight.info for weight in self.weights], self._config)[index]
        try:
            return rate_distortion.count(weight.values(), weight.info.axis, settings, self._factor(weight, settings))
        finally:
            self._model.release()

    def rounded(self, index: int, decision: TensorSettings) -> Quantized | None:
        """What became of a weight with these settings, if they are those of the last candidate."""
        packed = self._packed[index]
        if packed is None or self._decisions[index] != decision:
            return None
        with open(self._path, "rb") as file:
            file.seek(packed.start)
            return PackedWeight.from_bytes(file.read(packed.size)).quantized()

    def dealt(self, budget: float, facts: Sequence[LayerFacts | None] | None = None) -> Candidate:
        """The candidate with this error budget, dealt out as `allocate` does."""
        config = dataclasses.replace(self._config, error_budget=budget)
        return self._write(allocate([weight.info for weight in self.weights], config, facts))

    def with_errors(self, errors: Mapping[int, float], others: float) -> Candidate:
        """The candidate with given relative errors of some tunable weights, by index, and one of all the others, which are rounded plainly: that is quick."""
        return self._write(self._with_errors(errors, others))

    def fine_copy(self, error: float) -> Candidate:
        """The candidate with that relative error of all tunable weights, without those that may stay in floats: as like the original as ids can be."""
        decisions = self._with_errors({}, error)
        small = (self.tunable[index] and weight.info.num_elements <= MOST_FLOATS for index, weight in enumerate(self.weights))
        return self._write([Skip(TOO_SENSITIVE) if is_small else decision for decision, is_small in zip(decisions, small)])

    def _with_errors(self, errors: Mapping[int, float], others: float) -> list[TensorSettings | Skip]:
        decisions = allocate([weight.info for weight in self.weights], self._config)
        for index, decision in enumerate(decisions):
            if index in errors:
                decisions[index] = dataclasses.replace(decision, relative_error=errors[index])
            elif self.tunable[index]:
                plain = "uniform" if decision.buckets == "dependent" else decision.buckets
                decisions[index] = dataclasses.replace(decision, relative_error=others, buckets=plain, taps=None)
        return decisions

    def _write(self, decisions: list[TensorSettings | Skip]) -> Candidate:
        stale = [index for index, decision in enumerate(decisions) if decision != self._decisions[index]]
        if not os.path.exists(self._path) or not self._patch(decisions, stale):
            self._write_anew(decisions)
        self._decisions = list(decisions)
        packed_bytes = round(sum(entry.real_bytes for entry in self._packed if entry))
        errors = tuple(entry.error if entry else 0.0 for entry in self._packed)
        return Candidate(self._path, self._structure_bytes + packed_bytes, 8 * packed_bytes / max(self.num_elements, 1), errors)

    def _patch(self, decisions: list[TensorSettings | Skip], stale: list[int]) -> bool:
        """Overwrites the stale weights in place; False, with the file in no order, where one does not fit."""
        with open(self._path, "r+b") as file:
            for index in stale:
                blob, real_bytes, error = self._pack(index, decisions[index])
                old = self._packed[index]
                if len(blob) != (old.size if old else 0):
                    return False
                if old:
                    file.seek(old.start)
                    file.write(blob)
                    self._packed[index] = _Packed(old.start, old.size, real_bytes, error)
        return True

    def _write_anew(self, decisions: list[TensorSettings | Skip]) -> None:
        results = [self._pack(index, decision) for index, decision in enumerate(decisions)]
        model, numbers = self._rewritten(decisions, results)
        model.write(self._path, overwrite=True)
        written = Model.read(self._path)
        for index, (weight, (blob, real_bytes, error)) in enumerate(zip(self.weights, results)):
            start = written.schema.buffers[numbers[weight.buffer]].data.ctypes.data - written.address if blob else 0
            self._packed[index] = _Packed(start, len(blob), real_bytes, error) if blob else None
        size = model_writer.size(self._rewritten(decisions, results, _TYPICAL_ERROR)[0])
        self._structure_bytes = size - sum(len(blob) for blob, *_ in results)

    def _rewritten(self, decisions: list[TensorSettings | Skip], results: list[tuple], bias_error: float | None = None) -> tuple[Model, Mapping[int, int]]:
        """The model with these packed weights, and the new numbers of its buffers. Without a `bias_error`, biases are not in the packed weights, which can be overwritten then."""
        model = Model.read(self._source)
        packed = [
            (weight, blob, Encoding(weight.info.axis, decision.compute, bias_error))
            for weight, decision, (blob, *_) in zip(find_weights(model)[0], decisions, results) if blob
        ]  # fmt: skip
        return model, rewrite(model, packed, self._config).buffers

    def _factor(self, weight: Weight, settings: TensorSettings) -> np.ndarray | None:
        return self.factors.of(weight.buffer) if self.factors and settings.taps else None

    def _pack(self, index: int, decision: TensorSettings | Skip) -> tuple[bytes, float, float]:
        """Packed bytes, empty where the weight is left alone, how many the real codec would make of them, and the relative error."""
        weight = self.weights[index]
        nothing = b"", 0.0, 0.0
        if isinstance(decision, Skip):
            return nothing
        try:
            result = compress_tensor(weight.values(), weight.info.axis, dataclasses.replace(decision, codecs=("raw",)), self._factor(weight, decision))
        except UnpackableWeightError:
            return nothing
        finally:
            self._model.release()
        if counted_bytes(weight, len(result.blob)) >= weight.stored.nbytes:
            return nothing
        raw_bits, real_bits = (choose_codec(result.quantized.ids, dataclasses.replace(decision, codecs=codecs))[2] for codecs in (("raw",), decision.codecs))
        return result.blob, len(result.blob) + (real_bits - raw_bits) * weight.info.num_elements / 8, result.relative_error
