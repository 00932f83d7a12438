"""Other people's ways to make weights small: arrays in, number of bytes and the weights that would be decoded out.

    pip install --no-deps nncodec zstandard pysz

NNCodec (ISO 15938-17) is used without its PyTorch part, whence `--no-deps`: its core codes named arrays. int8 and int4 are what LiteRT's quantizer does with constant weights,
symmetric with one scale per output channel, compressed with zstd as an app's package would. SZ3 (pysz) is the error-bounded coder of the Smart-DNN lineage.
"""

import contextlib
import io
import sys
import tempfile
from unittest import mock

import numpy as np


def nncodec(weights: dict[str, np.ndarray], qp: int, tune_qp: bool = False) -> tuple[int, dict[str, np.ndarray]]:
    """Dependent quantization, DeepCABAC with adapted parameters, as its `encode` does by default.

    Args:
        weights: by name, output channels first; int8 ones are coded without loss.
        qp: the step is `2 ** (qp / 4)`, roughly; tune_qp: let it choose a parameter per tensor around that (its `opt_qp`).
    """
    with mock.patch.dict(sys.modules, {"nncodec.framework": mock.MagicMock()}):
        from nncodec import nnc
    parameters = {name: w.astype(np.int32) if w.dtype == np.int8 else w for name, w in weights.items()}
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        stream = nnc.compress(parameters, f"{folder}/stream.nnc", qp=qp, use_dq=True, opt_qp=tune_qp, row_skipping=True, return_bitstream=True)
        decoded = nnc.decompress(stream)
    return len(stream), {name: decoded[name].reshape(w.shape).astype(w.dtype) for name, w in weights.items()}


def nncodec_channels(weights: dict[str, np.ndarray], qp: int) -> tuple[int, dict[str, np.ndarray]]:
    """NNCodec given what it lacks: output channels brought to one size first, by float32 factors that are counted as they are."""
    factors = {name: np.sqrt(np.mean(np.square(w), axis=tuple(range(1, w.ndim)), keepdims=True)) + np.float32(1e-30) for name, w in weights.items() if w.dtype != np.int8}
    size, decoded = nncodec({name: w / factors[name] if name in factors else w for name, w in weights.items()}, qp)
    return size + sum(f.nbytes for f in factors.values()), {name: w * factors[name] if name in factors else w for name, w in decoded.items()}


def nncodec_unfolded(weights: dict[str, np.ndarray], factors: dict[str, np.ndarray], qp: int, tune_qp: bool = False) -> tuple[int, dict[str, np.ndarray]]:
    """NNCodec on the filters as they were before batch normalisation was folded in, and on its factors, which it codes finely: what it does with a network that still has its normalisation.

    Args: factors: of `before_folding.factors`.
    """
    shaped = {name: f.reshape(-1, *[1] * (weights[name].ndim - 1)) for name, f in factors.items()}
    whole = {name: w / np.where(shaped[name] == 0, 1, shaped[name]) if name in factors else w for name, w in weights.items()}
    size, decoded = nncodec(whole | {f"{name} factor": f for name, f in factors.items()}, qp, tune_qp)
    return size, {name: decoded[name] * decoded[f"{name} factor"].reshape(shaped[name].shape) if name in factors else decoded[name] for name in weights}


def integers(weights: dict[str, np.ndarray], bits: int) -> tuple[int, dict[str, np.ndarray]]:
    """Symmetric integers of `bits` bits and a float32 scale per channel, after zstd; int8 weights stay int8."""
    most = 2 ** (bits - 1) - 1
    stored, decoded = b"", {}
    for name, w in weights.items():
        if w.dtype == np.int8:
            stored, decoded[name] = stored + w.tobytes(), w
            continue
        scales = np.maximum(np.abs(w).reshape(len(w), -1).max(1), 1e-30).astype(np.float32) / np.float32(most)
        shaped = scales.reshape(-1, *[1] * (w.ndim - 1))
        ids = np.rint(w / shaped).astype(np.int8)
        decoded[name] = ids * shaped
        stored += _packed(ids.reshape(-1), bits) + scales.tobytes()
    return zstd_bytes(stored), decoded


def sz3(weights: dict[str, np.ndarray], relative_error: float) -> tuple[int, dict[str, np.ndarray]]:
    """SZ3 with the absolute error bound `relative_error * rms` of each tensor."""
    from pysz import sz, szConfig, szErrorBoundMode

    total, decoded = 0, {}
    for name, w in weights.items():
        if w.dtype == np.int8:
            total, decoded[name] = total + zstd_bytes(w.tobytes()), w
            continue
        config = szConfig()
        config.errorBoundMode = szErrorBoundMode.ABS
        config.absErrorBound = float(relative_error * np.sqrt(np.mean(np.square(w))))
        stream, _ = sz.compress(np.ascontiguousarray(w.reshape(len(w), -1)), config)
        total += stream.nbytes
        decoded[name] = sz.decompress(stream, np.float32, w.reshape(len(w), -1).shape)[0].reshape(w.shape)
    return total, decoded


def zstd_bytes(data: bytes) -> int:
    import zstandard

    return len(zstandard.ZstdCompressor(level=19).compress(data))


def _packed(ids: np.ndarray, bits: int) -> bytes:
    if bits == 8:
        return ids.tobytes()
    nibbles = np.append(ids, np.int8(0)) if ids.size % 2 else ids
    low, high = nibbles[::2] & 15, nibbles[1::2] & 15
    return (low | high << 4).astype(np.int8).tobytes()


NEED_FACTORS = ("nncodec unfolded",)
# name -> (coder, its settings from coarse to fine, as keyword arguments)
PEERS = {
    "nncodec": (nncodec, [{"qp": qp} for qp in range(-12, -40, -3)]),
    "nncodec opt_qp": (nncodec, [{"qp": qp, "tune_qp": True} for qp in range(-12, -40, -3)]),
    "nncodec channels": (nncodec_channels, [{"qp": qp} for qp in range(3, -21, -3)]),
    "nncodec unfolded": (nncodec_unfolded, [{"qp": qp, "tune_qp": tune} for tune in (False, True) for qp in range(-15, -37, -3)]),
    "int8+zstd": (integers, [{"bits": 8}]),
    "int4+zstd": (integers, [{"bits": 4}]),
    "sz3": (sz3, [{"relative_error": 2.0**-e} for e in range(7)]),
}
