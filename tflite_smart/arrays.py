"""Arrays in and out of models: reading them, casting them to a tensor's type, making random ones."""

import numpy as np

from tflite_smart.converter.calibration import numbers
from tflite_smart.converter.errors import InputError


def to_model_type(array: np.ndarray, detail: dict) -> np.ndarray:
    """Casts to the tensor's type; float data for an integer tensor with a scale is quantized, saturating."""
    dtype = np.dtype(detail["dtype"])
    if array.dtype == dtype:
        return array
    scale, zero_point = detail["quantization"]
    if np.issubdtype(dtype, np.integer) and np.issubdtype(array.dtype, np.floating) and scale:
        limits = np.iinfo(dtype)
        return np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max).astype(dtype)
    return array.astype(dtype)


def to_real(array: np.ndarray, detail: dict) -> np.ndarray:
    """Returns the real numbers (float64) that an output tensor stands for."""
    scale, zero_point = detail["quantization"]
    real = np.asarray(array, np.float64)
    return (real - zero_point) * scale if scale and np.issubdtype(array.dtype, np.integer) else real


def load_arrays(path: str) -> dict[str, np.ndarray]:
    """Reads .npz (name -> array) or .npy (one array under the name `x`).

    Raises: InputError: no such file, not numpy's format, or Python objects in it (they are never unpickled).
    """
    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            return {"x": numbers(path, data)}
        with data:
            return {key: numbers(f"{path}: {key}", data[key]) for key in data.files}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Give a .npy or .npz file.") from None
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InputError(f"{path}: must be a .npy or .npz file of plain arrays. Received: {error}") from None
    except Exception as error:  # zipfile and zlib have error types of their own
        raise InputError(f"{path}: can't be read: {error}") from None


def random_inputs(details: list[dict], num_samples: int, seed: int = 0,
                  input_range: tuple[float, float] | None = None) -> dict[str, np.ndarray]:
    """Returns seeded random samples for every input of `get_input_details()`, first axis = sample * the model's batch.

    float: standard normal, or uniform in `input_range`. int8, uint8, int16: every value of the type. int32, int64: 0 to 7
    (they are mostly token ids or lengths, and a larger one may lie outside the table). bool: both.
    """
    if input_range is not None and not input_range[0] <= input_range[1]:
        raise InputError(f"input range: its first number must not be larger than its second. Received: {input_range[0]:g} {input_range[1]:g}.")
    rng = np.random.default_rng(seed)
    return {d["name"]: _random_tensor(d, num_samples, rng, input_range) for d in details}


def _random_tensor(detail: dict, num_samples: int, rng: np.random.Generator, input_range) -> np.ndarray:
    own = [int(n) for n in detail["shape"]]
    shape = [num_samples * own[0], *own[1:]] if own else [num_samples]
    dtype = np.dtype(detail["dtype"])
    if np.issubdtype(dtype, np.floating):
        values = rng.standard_normal(shape) if input_range is None else rng.uniform(*input_range, shape)
        return values.astype(dtype)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if not np.issubdtype(dtype, np.integer):
        raise InputError(f"input {detail['name']}: no random values for type {dtype}. Give them with --inputs.")
    if input_range is not None:
        low, high = int(input_range[0]), int(input_range[1])
    elif dtype.itemsize <= 2:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        low, high = 0, 7
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)
