"""What the methods have made of a wrapped model's weights so far: a table, and numbers for logs."""

import dataclasses

import numpy as np

from tflite_smart import tables
from tflite_smart.converter import structure
from tflite_smart.wrap import smart_weights


@dataclasses.dataclass(frozen=True)
class WeightSummary:
    """One wrapped weight as it would be stripped now.

    Attributes:
        path: of the layer and its attribute.
        shape: of the weight.
        methods: names in order.
        step: steps of training so far.
        sparsity: fraction of zeros.
        bits_per_weight: order-0 entropy of the ids, for weights on a grid or in clusters; None for others, whose bits the converter chooses.
        relative_error: rms of what the methods change, over rms of the trained weight.
    """

    path: str
    shape: tuple[int, ...]
    methods: tuple[str, ...]
    step: int
    sparsity: float
    bits_per_weight: float | None
    relative_error: float


def summarize(model) -> list[WeightSummary]:
    """One entry for every wrapped weight."""
    return [_of(weight) for weight in smart_weights(model)]


def summary(model) -> None:
    """Prints the table of `summarize`."""
    rows = [
        [row.path, "x".join(map(str, row.shape)), ", ".join(row.methods), str(row.step), tables.percent(row.sparsity), "-" if row.bits_per_weight is None else f"{row.bits_per_weight:.2f}", tables.percent(row.relative_error)]
        for row in summarize(model)
    ]
    tables.print_table(f"{model.name}: compression", ["weight", "shape", "methods", "steps", "zeros", "bits/weight", "changed by"], rows, ["Bits: entropy of the ids, for weights on a grid or in clusters."])


def _of(weight) -> WeightSummary:
    raw, final = np.asarray(weight.raw.value, np.float32), weight.finish().weight
    found = structure.recognise(np.ascontiguousarray(weight.layout.to_matrix(final)))
    power = float(np.square(raw).sum())
    error = float(np.sqrt(np.square(raw - final).sum() / power)) if power else 0.0
    names = tuple(method.name for method in weight.methods)
    return WeightSummary(weight.weight_path, weight.layout.shape, names, int(weight.step.value), float(np.mean(final == 0)), None if found is None else _entropy(found.ids), error)


def _entropy(ids: np.ndarray) -> float:
    _, counts = np.unique(ids, return_counts=True)
    share = counts / ids.size
    return float(-(share * np.log2(share)).sum())
