"""After writing: decodes every packed weight of the file again and compares it with what was meant to be stored. Nothing is ever silently wrong."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from tflite_smart.converter.compress import expand_blob
from tflite_smart.converter.errors import PackedWeightError, VerificationError
from tflite_smart.converter.format import Quantized, from_matrix
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.model_writer import SMALL_ALIGNMENT

# scale * value is rounded once to float32, on top of the error that was measured before packing.
_ROUNDING = 2.0**-22
_CHUNK = 1 << 20


def expected_digest(quantized: Quantized, shape: tuple[int, ...], axis: int) -> bytes:
    """Digest of the values that a decoder must give back; taken from what was encoded, not by decoding."""
    return digest(quantized.values(), shape, axis)


def digest(matrix: np.ndarray, shape: tuple[int, ...], axis: int) -> bytes:
    return tensor_digest(from_matrix(matrix, shape, axis))


def tensor_digest(tensor: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(tensor), digest_size=16).digest()


def decoder() -> Callable[[bytes | np.ndarray, tuple[int, ...], int], np.ndarray]:
    """The library's decoder, which is the one that will run; the numpy reference where the library is not built."""
    try:
        from tflite_smart.delegates import native

        native.library()
    except (ImportError, OSError):
        return lambda blob, shape, axis: expand_blob(bytes(blob), shape, axis)

    def decode(blob, shape, axis):
        try:
            return native.expand(blob, shape)
        except native.NativeError as error:
            raise PackedWeightError(f"{error} The file is damaged or from another version: convert the model again.") from None

    return decode


def check_file(path: str, encoded: Iterable, rewritten, step: Callable = lambda item: item) -> None:
    """Reads the file and decodes every packed weight.

    Args:
        encoded: entries with `weight`, `digest` and `max_error`.
        rewritten: `rewrite.Rewritten` of the model.
        step: called on every entry, for progress.

    Raises:
        VerificationError: a weight is not where or what it should be.
    """
    written, decode = Model.read(path), decoder()
    for entry in map(step, encoded):
        weight = entry.weight
        data = written.schema.buffers[rewritten.buffers[weight.buffer]].data
        name, info = weight.info.names[0], weight.info
        if data is None or not np.array_equal(data, rewritten.blobs[weight.buffer]):
            raise VerificationError(f"{name}: packed weight must be in the file as it was encoded. Received: other bytes. Report this as a bug; the output was not kept.")
        if _file_offset(written, data) % SMALL_ALIGNMENT:
            raise VerificationError(f"{name}: packed weight must lie {SMALL_ALIGNMENT}-byte aligned. Received: another place. Report this as a bug; the output was not kept.")
        tensor = decode(data, info.shape, info.axis)
        if tensor_digest(tensor) != entry.digest:
            raise VerificationError(f"{name}: packed weight must decode to what was stored. Received: other values. Report this as a bug; the output was not kept.")
        error = largest_error(tensor, weight.stored)
        written.release()
        if error > entry.max_error + _ROUNDING * float(np.abs(tensor).max()):
            raise VerificationError(f"{name}: error must be at most {entry.max_error}. Received: {error}. Report this as a bug; the output was not kept.")


def largest_error(tensor: np.ndarray, original: np.ndarray) -> float:
    """Largest |difference|, chunk by chunk to bound the memory. Integers: exact."""
    a, b = tensor.reshape(-1), original.reshape(-1)
    wide = np.int16 if a.dtype == np.int8 else np.float32
    starts = range(0, a.size, _CHUNK)
    return max(float(np.abs(a[start : start + _CHUNK].astype(wide) - b[start : start + _CHUNK].astype(wide)).max()) for start in starts)


def _file_offset(model: Model, data: np.ndarray) -> int:
    return data.ctypes.data - model.address
