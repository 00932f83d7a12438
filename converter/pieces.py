"""Runs two versions of a model side by side, piece by piece: the original, and one whose weights are replaced on the way.

A piece is some operators in a row, as a model of its own whose inputs are what lies between it and the pieces before. So every operator runs once per version and sample, however often one stops to
look at what comes out; what is kept are the tensors that are still needed, of all samples.
"""

import os

import numpy as np
from ai_edge_litert import interpreter as litert

from tflite_smart.converter import calibration, model_writer
from tflite_smart.converter.model_editor import Model, indices, shape

_KEPT_BYTES = 512 << 20  # of tensors between pieces, both versions together
_LEAST_SAMPLES = 32


class Unsuitable(Exception):
    """The model can't be cut in pieces."""


class Pair:
    """Both versions, up to the operator that was last asked for.

    Args:
        source: path or bytes of the original .tflite.
        samples: of `calibration.samples`; of a model with large tensors only some of them are run.
        folder: for the pieces.

    Attributes:
        num_samples: how many are run; has_all: whether these are all.

    Raises:
        Unsuitable: the model has variables, or several subgraphs, so that its operators are no row.
    """

    def __init__(self, source, samples: list[list[np.ndarray]], folder: str):
        self.model, self._path = Model.read(source), os.path.join(folder, "piece.tflite")
        tree = self.model.schema
        self._main = tree.subgraphs[0]
        if len(tree.subgraphs) > 1 or any(tensor.isVariable for tensor in self._main.tensors):
            raise Unsuitable("it has variables or several subgraphs")
        tree.signatureDefs = tree.metadata = tree.metadataBuffer = None
        self._operators, self._original = list(self._main.operators), [buffer.data for buffer in tree.buffers]
        self._replaced: dict[int, np.ndarray] = {}
        self._last_use = {index: number for number, op in enumerate(self._operators) for index in indices(op.inputs)}
        count = max(_LEAST_SAMPLES, _KEPT_BYTES // (2 * self._widest() + 1))
        chosen = samples[:: -(-len(samples) // count)]
        starts = {index: [sample[number] for sample in chosen] for number, index in enumerate(indices(self._main.inputs))}
        self._values = dict(starts), dict(starts)  # tensor -> arrays by sample, of the original and of the other
        self._done, self.num_samples, self.has_all = 0, len(chosen), len(chosen) == len(samples)

    @property
    def differs(self) -> bool:
        """Whether anything was replaced."""
        return bool(self._replaced)

    def replace(self, buffer: int, values: np.ndarray) -> None:
        """From now on the second version has these constants, of the type and size of the original's."""
        self._replaced[buffer] = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)

    def reach(self, operator: int) -> None:
        """Runs both versions up to, and without, this operator.

        Raises:
            Unsuitable: LiteRT does not run the piece.
        """
        if operator <= self._done:
            return
        part, same = self._operators[self._done : operator], not self._replaced
        made = {index for op in part for index in indices(op.outputs)}
        self._values = tuple({index: arrays for index, arrays in version.items() if self._last_use.get(index, -1) >= self._done} for version in self._values)
        inputs = [index for index in self._values[0] if any(index in indices(op.inputs) for op in part)]
        outputs = sorted(index for index in made if self._last_use.get(index, -1) >= operator)
        if outputs:
            try:
                first = self._run(part, inputs, outputs, self._values[0], {})
                second = first if same else self._run(part, inputs, outputs, self._values[1], self._replaced)
            except (RuntimeError, ValueError) as error:
                raise Unsuitable(str(error)) from error
            self._values[0].update(first)
            self._values[1].update(second)
        self._done = operator

    def values(self, tensor: int) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
        """A tensor that the next operators may read, of all samples: the original's and the other's; None before it is there."""
        return (self._values[0][tensor], self._values[1][tensor]) if tensor in self._values[0] else None

    def _run(self, part: list, inputs: list[int], outputs: list[int], values: dict, replaced: dict) -> dict[int, list[np.ndarray]]:
        tree, main = self.model.schema, self._main
        needed = {main.tensors[index].buffer for op in part for index in indices(op.inputs) if index >= 0}
        main.operators, main.inputs, main.outputs = part, np.array(inputs, np.int32), np.array(outputs, np.int32)
        for number, buffer in enumerate(tree.buffers):
            buffer.data = replaced.get(number, self._original[number]) if number in needed else None
        with open(self._path, "wb") as file:
            model_writer.write_stream(self.model, file)
        self.model.release()
        interpreter = litert.Interpreter(model_path=self._path, num_threads=min(2, os.cpu_count() or 1))
        found: dict[int, list[np.ndarray]] = {index: [] for index in outputs}
        for sample in range(self.num_samples):
            calibration.run(interpreter, [values[detail["index"]][sample] for detail in interpreter.get_input_details()])
            for index in outputs:
                found[index].append(interpreter.get_tensor(index))
        return found

    def _widest(self) -> int:
        """The most bytes of one sample that are needed at once."""
        born = {index: number for number, op in enumerate(self._operators) for index in indices(op.outputs)}
        change = np.zeros(len(self._operators) + 2)
        for index, last in self._last_use.items():
            if index in born:
                change[born[index]] += 4 * np.prod(shape(self._main.tensors[index]))
                change[last + 1] -= 4 * np.prod(shape(self._main.tensors[index]))
        return int(np.cumsum(change).max())
