"""Calibration data as samples for an interpreter."""

from collections.abc import Mapping

import numpy as np

from tflite_smart.converter.errors import TFLiteSmartError

MAX_SAMPLES = 32


class InputDataError(TFLiteSmartError):
    """Calibration data that do not fit the model's inputs."""


def samples(details: list[Mapping], data, max_samples: int = MAX_SAMPLES) -> list[list[np.ndarray]]:
    """Single samples, `[sample][input]`, each with the batch size that the model has.

    Args:
        details: `get_input_details()` of the model.
        data: one array for a model with one input, or input tensor name -> array. The first axis counts samples.
        max_samples: how many to take, evenly spread over the data.

    Raises:
        InputDataError: other names, shapes or lengths.
    """
    arrays = _by_input(details, data)
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise InputDataError(f"calibration data: every input must have the same number of samples, at least 1. Received: {sorted(lengths)}.")
    batches = [_batch(detail, array) for detail, array in zip(details, arrays)]
    count = min(len(batch) for batch in batches)
    if count == 0:
        raise InputDataError(f"calibration data: there must be at least one batch of {int(details[0]['shape'][0])} samples. Received: {lengths.pop()} samples.")
    chosen = np.unique(np.linspace(0, count - 1, min(count, max_samples)).astype(int))
    return [[batch[index] for batch in batches] for index in chosen]


def _by_input(details: list[Mapping], data) -> list[np.ndarray]:
    names = [detail["name"] for detail in details]
    if not isinstance(data, Mapping):
        data = {names[0]: np.asarray(data)}
    elif len(data) == 1 and len(names) == 1:
        data = {names[0]: next(iter(data.values()))}
    if set(data) != set(names):
        raise InputDataError(f"calibration data: inputs must be {sorted(names)}. Received: {sorted(data)}. Save them with numpy.savez(file, **{{name: array}}).")
    return [np.asarray(data[name]) for name in names]


def _batch(detail: Mapping, array: np.ndarray) -> np.ndarray:
    """`(batches, *model shape)` in the model's type; float data for a quantized input are quantized."""
    shape, signature = [int(n) for n in detail["shape"]], detail.get("shape_signature", detail["shape"])
    free = [int(n) == -1 for n in signature]
    if array.ndim != len(shape) or any(not f and n != m for f, n, m in zip(free[1:], array.shape[1:], shape[1:])):
        raise InputDataError(f"calibration data: input {detail['name']} must have shape {[-1, *map(int, signature[1:])]}. Received: {list(array.shape)}.")
    dtype, (scale, zero_point) = np.dtype(detail["dtype"]), detail["quantization"]
    if scale and np.issubdtype(dtype, np.integer) and np.issubdtype(array.dtype, np.floating):
        limits = np.iinfo(dtype)
        array = np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max)
    size = max(shape[0], 1)
    whole = len(array) // size * size
    return array[:whole].reshape(-1, size, *array.shape[1:]).astype(dtype)
