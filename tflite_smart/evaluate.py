"""Accuracy of a classifier on labelled data."""

from dataclasses import asdict, dataclass

import numpy as np

from tflite_smart.converter.accuracy import class_indices
from tflite_smart.converter.errors import InputError
from tflite_smart.runner import Runner


@dataclass(frozen=True)
class Accuracy:
    """Shares in [0, 1] of samples whose label is the best, or among the five best, of the model's scores."""

    top1: float
    top5: float
    num_samples: int

    def to_dict(self) -> dict:
        return asdict(self)


def evaluate(runner: Runner, x: np.ndarray, y: np.ndarray) -> Accuracy:
    """Returns the accuracy of the model's first output.

    Args:
        x: samples, shape `(n, ...)`; y: labels, shape `(n,)` or `(n, 1)`, or one-hot rows `(n, classes)`.
    Raises: InputError: shapes that do not fit each other, or labels outside the model's classes.
    """
    labels = class_indices(y, len(x))
    name = runner.outputs[0]["name"]
    scores = np.concatenate([_rows(runner(feed)[name]) for feed in runner.batches(runner.named({"x": x}))])
    if len(scores) != len(labels):
        raise InputError(f"{runner.path}: output {name} must have one row per sample. Received: {len(scores)} rows for {len(labels)} "
                         "samples. evaluate is for classifiers.")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise InputError(f"y: labels must be in [0, {scores.shape[1]}), the classes of output {name}. "
                         f"Received: {labels.min()} to {labels.max()}")
    # The rank of the right class: how many score higher. A tie counts for the model only where the label comes first, as in argmax.
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1])[None] < labels[:, None]
    rank = np.sum((scores > own) | ((scores == own) & earlier), axis=1)
    return Accuracy(float(np.mean(rank < 1)), float(np.mean(rank < 5)), len(labels))


def _rows(output: np.ndarray) -> np.ndarray:
    return output.reshape(-1, output.shape[-1]) if output.ndim else output.reshape(1, 1)
