"""Second moments of the inputs of convolutions and dense layers, from running the original model on calibration data or on made-up inputs.

Memory is bounded: layers are taken in groups, one pass over the data each, and what is kept (the factors for `feedback`) lies in files.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator

import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter import calibration, feedback, model_writer
from tflite_smart.converter.model_editor import Model, indices, shape
from tflite_smart.converter.selection import Weight

MAX_SAMPLES = 512
_SEED = 0
_ROWS_AT_ONCE = 512
_GROUP_BYTES = 256 << 20  # second moments held at once
_LARGEST_K = 8192  # a factor of a wider layer would take more time and room than its weights are worth
_LARGEST_MADE_UP_K = 2048  # where nobody asked for it, it must be quick
ROWS_PER_ELEMENT, _LEAST_ROWS = 4, 8192  # input vectors looked at for each of the k, and at least


@dataclasses.dataclass(frozen=True)
class Layer:
    """A weight whose inputs are looked at: the tensor they come from, `vectors(values, most, rng)`, which draws vectors of the weight's k from it, and the taps of its filter."""

    buffer: int
    tensor: int
    k: int
    vectors: Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
    taps: tuple[int, int] = (1, 1)

    def most_rows(self, num_samples: int) -> int:
        """How many vectors to draw from one sample."""
        return -(-(ROWS_PER_ELEMENT * self.k + _LEAST_ROWS) // num_samples)


class Factors:
    """Feedback factors of a model's layers, by the index of the weight's buffer."""

    def __init__(self, folder: str):
        self._folder = folder

    def of(self, buffer: int) -> np.ndarray | None:
        """The factor, mapped from its file, or None where the layer has none."""
        path = self._path(buffer)
        return np.load(path, mmap_mode="r") if os.path.exists(path) else None

    def save(self, buffer: int, factor: np.ndarray) -> None:
        temporary = self._path(buffer) + ".tmp.npy"
        np.save(temporary, factor)
        os.replace(temporary, self._path(buffer))  # whole or not at all: a later process may read it

    def _path(self, buffer: int) -> str:
        return os.path.join(self._folder, f"factor_{buffer}.npy")


def collect(source, model: Model, weights: list[Weight], data, folder: str, step: Callable = lambda item: item, made_up: bool = False) -> Factors:
    """Runs the original model on the data and saves a factor for every float convolution (without groups) and dense layer of the main graph.

    Args:
        source: path or bytes of the original .tflite; model: the same, read.
        weights: those to look at.
        data: as in `calibration.samples`.
        folder: where the factors go. Layers whose factors are there already, from a conversion that was interrupted, are not looked at again.
        step: called once per group of layers, for progress.
        made_up: believe only half of what the data say, see `feedback.half_typical`.

    Raises:
        InputError: the data do not fit.
        RuntimeError, ValueError: LiteRT can't run the model.
    """
    factors = Factors(folder)
    layers = [layer for layer in layers_of(model, weights) if layer.k <= (_LARGEST_MADE_UP_K if made_up else _LARGEST_K)]
    for group in _groups(layers):
        if all(factors.of(layer.buffer) is not None for layer in group):
            step(group)
            continue
        chosen = samples(source, data)
        interpreter = _interpreter(source) if made_up else _looking_at(source, [layer.tensor for layer in group], folder)
        moments = {layer.buffer: Moment(layer.k, layer.k) for layer in group}
        rng = np.random.default_rng(_SEED)
        for sample in chosen:
            calibration.run(interpreter, sample)
            for layer in group:
                rows = layer.vectors(interpreter.get_tensor(layer.tensor), layer.most_rows(len(chosen)), rng)
                moments[layer.buffer].add(rows, rows)
        for layer in group:
            moment = moments.pop(layer.buffer).mean()
            factors.save(layer.buffer, feedback.feedback_factor(feedback.half_typical(moment, layer.taps) if made_up else moment))
        step(group)
    return factors


def samples(source, data) -> list[list[np.ndarray]]:
    """The samples of the data that layers are looked at with."""
    return _samples(_interpreter(source), data)


def _samples(interpreter, data) -> list[list[np.ndarray]]:
    return calibration.samples(interpreter.get_input_details(), data, MAX_SAMPLES, calibration.signature_names(interpreter))


class Moment:
    """Mean of y x^T over pairs of vectors, taken some hundred at a time: a product with few rows would only move the matrix through memory. Args: its shape, lengths of y and of x."""

    def __init__(self, *shape: int):
        self._sum, self._count, self._waiting, self._num_waiting = np.zeros(shape, np.float32), 0, [], 0

    def add(self, y: np.ndarray, x: np.ndarray) -> None:
        """Pairs, `(rows, length)` each."""
        self._waiting.append((y, x))
        self._num_waiting += len(x)
        if self._num_waiting >= _ROWS_AT_ONCE:
            self._flush()

    def mean(self) -> np.ndarray:
        self._flush()
        return self._sum / max(self._count, 1)

    def _flush(self) -> None:
        if self._waiting:
            y, x = (np.concatenate(rows) for rows in zip(*self._waiting))
            self._sum += y.T @ x
            self._count += len(x)
            self._waiting, self._num_waiting = [], 0


def _interpreter(source):
    """Keeps every tensor, and runs without delegates, which would hide the tensors inside their partitions."""
    where = {"model_path": os.fspath(source)} if isinstance(source, (str, os.PathLike)) else {"model_content": bytes(source)}
    return litert.Interpreter(
        **where,
        num_threads=min(2, os.cpu_count() or 1),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


def _looking_at(source, tensors: list[int], folder: str):
    """Has these tensors among its outputs, so that delegates may run the rest: a third of the time on a large model."""
    model = Model.read(source)
    main = model.schema.subgraphs[0]
    shown = set(tensors) - set(indices(main.inputs))  # those are kept anyway
    main.outputs = np.array(list(dict.fromkeys([*indices(main.outputs), *sorted(shown)])), np.int32)
    path = os.path.join(folder, "shown.tflite")
    try:
        with open(path, "wb") as file:
            model_writer.write_stream(model, file)
        return litert.Interpreter(model_path=path, num_threads=min(2, os.cpu_count() or 1))
    finally:
        os.remove(path)  # LiteRT has mapped it


def _groups(layers: list[Layer]) -> Iterator[list[Layer]]:
    group, held = [], 0
    for layer in layers:
        size = 4 * layer.k * layer.k
        if group and held + size > _GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(layer)
        held += size
    if group:
        yield group


def layers_of(model: Model, weights: list[Weight]) -> list[Layer]:
    main = model.schema.subgraphs[0]
    layers = []
    for weight in weights:
        sites = [site for site in weight.sites if site.subgraph is main]
        if len(sites) != 1 or len(weight.sites) != 1 or weight.info.dtype != "float32":
            continue
        op, dimensions = sites[0].op, weight.info.shape
        source = int(op.inputs[0])
        inputs = main.tensors[source]
        if inputs.type != schema.TensorType.FLOAT32:
            continue
        if weight.info.op_type == "FULLY_CONNECTED":
            layers.append(Layer(weight.buffer, source, dimensions[1], lambda x, most, rng, k=dimensions[1]: draw(x.reshape(-1, k), most, rng)))
        elif weight.info.op_type == "CONV_2D" and shape(inputs)[-1] == dimensions[3]:
            k = dimensions[1] * dimensions[2] * dimensions[3]
            layers.append(Layer(weight.buffer, source, k, lambda x, most, rng, d=dimensions, o=op.builtinOptions: draw(patches(x, d, o), most, rng), dimensions[1:3]))
    return layers


def draw(vectors: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many of the vectors `(..., ...)`, which may be a view that is dear to copy: `(rows, k)`."""
    positions = vectors.shape[: 1 if vectors.ndim == 2 else 3]
    count = int(np.prod(positions))
    chosen = rng.choice(count, most, replace=False) if count > most else np.arange(count)
    return vectors[np.unravel_index(chosen, positions)].reshape(len(chosen), -1)


def patches(x: np.ndarray, dimensions: tuple[int, ...], options: schema.Conv2DOptionsT) -> np.ndarray:
    """What a convolution multiplies: a view `(batch, y, x, h, w, i)` of an input `(batch, height, width, i)`, padded.

    Args:
        dimensions: of the filter, OHWI.
        options: strides, dilations and padding.
    """
    _, height, width, _ = dimensions
    strides, dilations = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    extents = [(size - 1) * dilation + 1 for size, dilation in zip((height, width), dilations)]
    if options.padding == schema.Padding.SAME:
        totals = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(x.shape[1:3], strides, extents)]
        x = np.pad(x, ((0, 0), *((total // 2, total - total // 2) for total in totals), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, extents, axis=(1, 2))
    return windows[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]].transpose(0, 1, 2, 4, 5, 3)
