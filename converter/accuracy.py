"""Top-1 of a classifier on labelled samples."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tflite_smart.converter import calibration
from tflite_smart.converter.errors import InputError


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Samples as the model takes them, one array with a batch axis or input name -> array, and their classes `(n,)`."""

    x: np.ndarray | Mapping[str, np.ndarray]
    classes: np.ndarray


def labelled(data: Mapping[str, np.ndarray]) -> Labelled:
    """From arrays under the keys x and y; all others than y are inputs.

    Raises:
        InputError: a key is missing, or y is no list of labels.
    """
    if "y" not in data or len(data) < 2:
        raise InputError(f"evaluation data: must hold the keys x (samples) and y (labels). Received: {sorted(data)}. Save them with numpy.savez(file, x=..., y=...).")
    inputs = {name: np.asarray(array) for name, array in data.items() if name != "y"}
    lengths = calibration.num_samples(inputs.values())
    return Labelled(next(iter(inputs.values())) if len(inputs) == 1 else inputs, class_indices(data["y"], max(lengths)))


def class_indices(y: np.ndarray, num_samples: int) -> np.ndarray:
    """Labels of shape `(n,)` or `(n, 1)`, or one-hot rows `(n, classes)`, as indices `(n,)`.

    Raises:
        InputError: neither of these, or not one per sample.
    """
    labels = np.asarray(y)
    if labels.ndim < 2 and not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"y: labels must be integers, or one-hot rows. Received: dtype={labels.dtype}. Cast them, for example y.astype(int).")
    if labels.ndim == 2:
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(1)
    if labels.ndim != 1 or len(labels) != num_samples or not len(labels):
        raise InputError(f"y: must hold one label per sample of x. Received: {num_samples} samples, y.shape={list(np.shape(y))}.")
    return labels


def top1(interpreter, data: Labelled) -> float:
    """Share of the samples whose label has the best score in the first output, of an unallocated interpreter.

    Raises:
        InputError: the samples do not fit the model, or it is no classifier of these labels.
    """
    details = interpreter.get_input_details()
    samples = calibration.samples(details, data.x, len(data.classes), calibration.signature_names(interpreter))
    scores = []
    for sample in samples:
        calibration.run(interpreter, sample)
        output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        scores.append(output.reshape(-1, output.shape[-1]) if output.ndim else output.reshape(1, 1))
    scores = np.concatenate(scores)
    classes = data.classes[: len(scores)]  # samples that do not fill a batch are left out
    if len(scores) != len(classes) or classes.min() < 0 or classes.max() >= scores.shape[1]:
        raise InputError(f"y: labels must be in [0, {scores.shape[1]}), one per row of the first output. Received: {classes.min()} to {classes.max()}, {len(scores)} rows.")
    return float(np.mean(scores.argmax(1) == classes))
