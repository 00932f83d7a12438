"""`project`: a Keras model with the weights that conversion would give it. What post-training compression found is then where training begins, or, again and again, where it comes back to.

`loosen` is for the beginning: float weights that round to what was found, and are ready to move.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np

from tflite_smart.converter import from_keras
from tflite_smart.converter.convert import convert
from tflite_smart.converter.errors import UnsupportedModelError
from tflite_smart.converter.expand import expand
from tflite_smart.converter.format import to_matrix
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.rewrite import is_smart
from tflite_smart.converter.selection import find_weights
from tflite_smart.wrap import clone, plain_weights, smart_weights

_HALVINGS = 12  # of the way from one weight to the other
_SAME = 1e-4  # relative: what folding a batch normalization into float32 weights rounds off


def project(model, recipe=None, calibration_data=None):
    """A copy of a model whose weights are those that `ts.convert(model, recipe, calibration_data)` stores.

    A converter that knows a layer's inputs makes up for the error of one weight with others, and deals out the bits to the layers that need them: a better beginning for training than any rounding of
    single weights. With `buckets="uniform"` the weights lie on one grid per channel, which `EntropyQuantize(keep_grid=True)` trains on.

    Args:
        model: a built plain Keras 3 model. It stays as it was.
        recipe, calibration_data: see `ts.convert`.

    Returns:
        A model of the same kind, not compiled. Weights that the recipe leaves alone or that appear in no operator of the .tflite are the model's.

    Raises:
        UnsupportedModelError: for what is no plain Keras 3 model, and for one that Keras can't clone.
        TFLiteSmartError: see `ts.convert`.

    Example:
        >>> recipe = ts.SmartConfig(target_size_bytes=170_000, global_config=ts.WeightConfig(buckets="uniform"))  # doctest: +SKIP
        >>> wrapped = ts.smart_wrap(ts.project(model, recipe, images), EntropyQuantize(keep_grid=True))  # doctest: +SKIP
        >>> ts.loosen(wrapped, model)  # doctest: +SKIP
    """
    if not isinstance(model, keras.Model) or not model.built or smart_weights(model):
        raise UnsupportedModelError(f"model must be a built plain Keras 3 model. Received: {type(model).__name__}. Project before wrapping, or strip the model first.")
    projected = clone(model)
    if projected is model:
        raise UnsupportedModelError(f"{model.name}: model must be one that Keras can clone. Received: {type(model).__name__} without a working get_config.")
    with tempfile.TemporaryDirectory(prefix="tflite_smart_") as folder:
        plain, packed, expanded = (str(Path(folder) / name) for name in ("float.tflite", "smart.tflite", "expanded.tflite"))
        plain = from_keras.to_tflite(model, folder).path
        convert(plain, recipe, calibration_data, output=packed)
        if not is_smart(Model.read(packed)):
            return projected
        expand(packed, expanded)
        pairs = list(zip(_matrices(plain), _matrices(expanded), strict=True))
    for variable, layout in plain_weights(projected):
        matrix = keras.ops.convert_to_numpy(layout.to_matrix(variable.value)).astype(np.float32)
        new = next((found for before, after in pairs if (found := _unfolded(matrix, before, after)) is not None), None)
        if new is not None:
            variable.assign(layout.from_matrix(new))
    return projected


def loosen(wrapped, model) -> None:
    """Moves the float weights behind a wrapped model's rounding towards another model's, each as far as it still rounds to what it did.

    A model that was projected and then wrapped begins with every weight in the middle of a step, and few change their id in a short training. With the float network behind the rounding, those
    that error feedback rounded the other way lie at the border: ids are the projected ones, and move where a gradient says so.

    Args:
        wrapped: what `smart_wrap` made of `project(model, ...)`, not trained yet, with methods that round each weight by itself. Changed in place.
        model: the plain model that was projected.

    Raises:
        UnsupportedModelError: for a model that was not wrapped, and for two that don't have the same weights. Neither is changed.
    """
    for each in (wrapped, model):
        if not isinstance(each, keras.Model) or not each.built:
            raise UnsupportedModelError(f"wrapped and model must be built Keras 3 models. Received: {type(each).__name__}.")
    behind = {id(weight.raw): weight for weight in smart_weights(wrapped)}
    if not behind:
        raise UnsupportedModelError("wrapped must be a model that smart_wrap has wrapped. Received: one without wrapped weights.")
    here, there = ([variable for variable, _ in plain_weights(each)] for each in (wrapped, model))
    if [v.shape for v in here] != [v.shape for v in there]:
        raise UnsupportedModelError(f"{model.name}: model must be the one that was projected, with weights of the same shapes. Received: {len(there)} weights beside {len(here)}.")
    for variable, target in zip(here, there):
        if id(variable) in behind:
            variable.assign(_border(behind[id(variable)].rounded, variable.value, target.value))


def _border(rounded, near, far):
    """The furthest values between `near` and `far` that `rounded`, a function that rounds element by element, still takes to what it makes of `near`."""
    wanted = rounded(near)
    near, far = (keras.ops.where(rounded(far) == wanted, far, near), far)
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        same = rounded(middle) == wanted
        near, far = keras.ops.where(same, middle, near), keras.ops.where(same, far, middle)
    return near


def _matrices(path: str) -> list[np.ndarray]:
    """The float weights of a .tflite as matrices of FORMAT.md, 1, in the order of their first use."""
    return [to_matrix(weight.values().copy(), weight.info.axis) for weight in find_weights(Model.read(path))[0] if weight.info.dtype == "float32"]


def _unfolded(matrix: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """`after` without the factors of the channels that make `before` of `matrix`; None where `before` is another weight."""
    if before.shape != matrix.shape:
        return None
    power = np.square(matrix, dtype=np.float64).sum(axis=1)
    factors = np.divide(np.einsum("nk,nk->n", before, matrix, dtype=np.float64), power, out=np.zeros(len(matrix)), where=power > 0)
    if np.abs(before - factors[:, None] * matrix).max() > _SAME * np.abs(before).max():
        return None
    return np.where(factors[:, None] == 0, matrix, np.divide(after, factors[:, None], out=np.zeros_like(after), where=factors[:, None] != 0)).astype(np.float32)
