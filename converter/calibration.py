"""Calibration data as samples for an interpreter."""

from collections.abc import Iterable, Mapping

import numpy as np

from tflite_smart.converter.errors import InputError

MAX_SAMPLES = 32


def samples(details: list[Mapping], data, max_samples: int = MAX_SAMPLES, signature: Mapping[str, str] | None = None) -> list[list[np.ndarray]]:
    """Single samples, `[sample][input]`, each with the batch size that the model has.

    Args:
        details: `get_input_details()` of the model.
        data: one array for a model with one input, or input tensor name -> array. The first axis counts samples.
        max_samples: how many to take, evenly spread over the data.
        signature: of `signature_names`, where the data may go by those names too.

    Raises:
        InputError: other names, shapes or lengths.
    """
    arrays = _by_input(details, data, signature or {})
    lengths = num_samples(arrays)
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"calibration data: every input must have the same number of samples, at least 1. Received: {sorted(lengths)}.")
    for detail, array in zip(details, arrays):
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise InputError(f"calibration data: input {detail['name']} must be finite. Received: inf or nan.")
    batches = [_batch(detail, array) for detail, array in zip(details, arrays)]
    count = min(len(batch) for batch in batches)
    if count == 0:
        raise InputError(f"calibration data: there must be at least one batch of {int(details[0]['shape'][0])} samples. Received: {lengths.pop()} samples.")
    chosen = np.unique(np.linspace(0, count - 1, min(count, max_samples)).astype(int))
    return [[batch[index] for batch in batches] for index in chosen]


def num_samples(arrays: Iterable[np.ndarray]) -> set[int]:
    """The lengths of their first axes.

    Raises:
        InputError: one is a single number, without an axis.
    """
    arrays = list(arrays)
    if any(array.ndim == 0 for array in arrays):
        raise InputError("data: arrays must have a first axis that counts samples. Received: a single number. Stack the samples with numpy.stack.")
    return {len(array) for array in arrays}


def run(interpreter, sample: list[np.ndarray]) -> None:
    """One inference on one array per input, of an interpreter that may still have to be resized and allocated."""
    for detail, values in zip(interpreter.get_input_details(), sample):
        if tuple(detail["shape"]) != values.shape:
            interpreter.resize_tensor_input(detail["index"], values.shape)
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), sample):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()


def signature_names(interpreter) -> dict[str, str]:
    """Input name -> tensor name of the only signature of a LiteRT interpreter; empty where there are none or several."""
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        return {}
    details = interpreter.get_signature_runner(next(iter(signatures))).get_input_details()
    return {name: detail["name"] for name, detail in details.items()}


def by_tensor_name(names: list[str], data: Mapping, signature: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays under the model's tensor names; they may come under those, under the signature's, or, for a model with one input, under any.

    Raises:
        InputError: other names.
    """
    if set(data) == set(names):
        return dict(data)
    if len(data) == 1 and len(names) == 1:
        return {names[0]: next(iter(data.values()))}
    if signature and set(data) == set(signature):
        return {signature[key]: array for key, array in data.items()}
    expected = f"{sorted(signature)} or {sorted(names)}" if signature else f"{sorted(names)}"
    raise InputError(f"data: inputs must be {expected}. Received: {sorted(data)}. Save them with numpy.savez(file, **{{input_name: array}}).")


def _by_input(details: list[Mapping], data, signature: Mapping[str, str]) -> list[np.ndarray]:
    names = [detail["name"] for detail in details]
    named = by_tensor_name(names, data, signature) if isinstance(data, Mapping) else {names[0]: data}
    if len(named) != len(names):
        raise InputError(f"calibration data: there must be one array for each of the inputs {names}. Received: one array. Give a mapping from names to arrays.")
    return [numbers(name, named[name]) for name in names]


def numbers(name: str, values) -> np.ndarray:
    """`values` as an array of integers, real numbers or bools. Raises InputError for texts and other objects."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise InputError(f"data: {name} must hold integers, real numbers or bools. Received: dtype={array.dtype}. Cast them, for example with astype('float32').")
    return array


def _batch(detail: Mapping, array: np.ndarray) -> np.ndarray:
    """`(batches, *model shape)` in the model's type; float data for a quantized input are quantized."""
    shape, signature = [int(n) for n in detail["shape"]], detail.get("shape_signature", detail["shape"])
    free = [int(n) == -1 for n in signature]
    if array.ndim != len(shape) or any(not f and n != m for f, n, m in zip(free[1:], array.shape[1:], shape[1:])):
        raise InputError(f"calibration data: input {detail['name']} must have shape {[-1, *map(int, signature[1:])]}. Received: {list(array.shape)}.")
    dtype, (scale, zero_point) = np.dtype(detail["dtype"]), detail["quantization"]
    if scale and np.issubdtype(dtype, np.integer) and np.issubdtype(array.dtype, np.floating):
        limits = np.iinfo(dtype)
        array = np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max)
    size = max(shape[0], 1)
    whole = len(array) // size * size
    return array[:whole].reshape(-1, size, *array.shape[1:]).astype(dtype)
