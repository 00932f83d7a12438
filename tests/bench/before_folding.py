"""What batch normalisation multiplied the filters by when the converter folded it in: found by comparing the .tflite with the Keras file it came from.

Coders with one step for a whole tensor do better on filters as they were trained, whose channels are of one size, than on the folded ones of the .tflite. A peer may want both: the filters as they were,
and one factor per channel.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

_TOLERANCE = 1e-3  # of a channel, rms: the roundings of folding are 1e-7


def factors(source: Path, folded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Factors `(channels,)` by name, for the weights that are a kernel of the file times one factor per output channel.

    Args:
        source: a .keras or .h5 file.
        folded: float32 weights, output channels first, then the other axes in the order of Keras.
    """
    kernels = [kernel for values in _arrays(source) for kernel in _channels_first(values)]
    found = {}
    for name, weight in folded.items():
        matrix = weight.reshape(len(weight), -1)
        for kernel in kernels:
            if kernel.shape == matrix.shape and weight.dtype == np.float32:
                factor = np.einsum("nk,nk->n", matrix, kernel) / np.maximum(np.einsum("nk,nk->n", kernel, kernel), 1e-30)
                if np.all(np.linalg.norm(matrix - factor[:, None] * kernel, axis=1) <= _TOLERANCE * np.linalg.norm(matrix, axis=1) + 1e-12):
                    found[name] = factor.astype(np.float32)
                    break
    return found


def _arrays(source: Path) -> Iterator[np.ndarray]:
    import h5py

    content = zipfile.ZipFile(source).read("model.weights.h5") if source.suffix == ".keras" else source.read_bytes()
    found = []
    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(lambda _, item: found.append(np.array(item)) if isinstance(item, h5py.Dataset) and len(item.shape) > 1 else None)
    return iter(found)


def _channels_first(values: np.ndarray) -> list[np.ndarray]:
    """Matrices `(channels, others)`: of a kernel (.., in, out), and of a depthwise one (.., channels, 1)."""
    views = [np.moveaxis(values, -1, 0)]
    if values.shape[-1] == 1:
        views.append(np.moveaxis(values[..., 0], -1, 0))
    return [np.ascontiguousarray(view.reshape(len(view), -1), np.float32) for view in views]
