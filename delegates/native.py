"""The shared library from Python: where it is, and its C API (include/tflite_smart.h) as functions on numpy arrays.

Only numpy and ctypes. Interpreters load the same file as an external delegate; the converter uses its encoder.
"""

import ctypes
import functools
import os

import numpy as np

LIBRARY_NAME = "libtflite_smart_delegate.so"
_BESIDE = os.path.join(os.path.dirname(os.path.realpath(__file__)), LIBRARY_NAME)
LIBRARY_VARIABLE = "TFLITE_SMART_LIBRARY"  # names another build of the library, for tests and cross builds

CODECS = {"raw": 0, "bitpack": 1, "rans": 2, "sparse": 3}
VALUE_KINDS = {"integer": 0, "uniform": 1, "midrise": 2, "codebook": 3, "dependent": 4, "smartdeal": 5}


class DelegateLibraryError(OSError):
    """The delegate library is missing or can't be loaded."""


class NativeError(ValueError):
    """The library refused its input. `code` is the C API's number for why, `kind` its name."""

    def __init__(self, code: int, kind: str, message: str):
        super().__init__(message)
        self.code = code
        self.kind = kind


class PackedInfo(ctypes.Structure):
    """`tfs_info`: what the header of a packed weight says."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("codec", "value_kind", "raw_bits", "num_symbols", "has_escape")]
    _fields_ += [("base", ctypes.c_int32)]
    _fields_ += [(name, ctypes.c_uint32) for name in ("num_channels", "channel_elements", "inner_elements", "panels_per_tile",
                                                      "num_panels", "num_tiles", "payload_bytes")]

    def tile_ids(self, tile: int) -> int:
        """Number of ids in a tile."""
        first = 32 * self.panels_per_tile * tile
        return (min(first + 32 * self.panels_per_tile, self.num_channels) - first) * self.channel_elements


class _Coding(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("codec", "raw_bits", "num_symbols", "has_escape")]
    _fields_ += [("base", ctypes.c_int32), ("frequencies", ctypes.c_uint8 * 16)]


class _TrellisBlock(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("weights", "asked", "matrix", "importance")]
    _fields_ += [(name, ctypes.c_uint32) for name in ("num_channels", "num_columns", "dependent")]


class _Error(ctypes.Structure):
    _fields_ = [("message", ctypes.c_char * 224)]


_SIGNATURES = {  # name: (result, arguments without the error)
    "tfs_open": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(PackedInfo)]),
    "tfs_decode_tile": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint64]),
    "tfs_expand": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint64]),
    "tfs_encode_tile": (ctypes.c_int32, [ctypes.POINTER(_Coding), ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64,
                                         ctypes.POINTER(ctypes.c_uint64)]),
    "tfs_round_block": (ctypes.c_int32, [ctypes.POINTER(_TrellisBlock), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]),
    "tfs_force_isa": (ctypes.c_int32, [ctypes.c_char_p]),
}


def library_path() -> str:
    """The path of the shared library, as `load_delegate` and `benchmark_model --external_delegate_path` want it.

    Raises: DelegateLibraryError: the library has not been built.
    """
    chosen = os.environ.get(LIBRARY_VARIABLE)
    path = chosen or _BESIDE
    if not os.path.isfile(path):
        mend = f"Correct or unset {LIBRARY_VARIABLE}." if chosen else "Build it with `pip install .` (or `pip install -e .`) in the source folder."
        raise DelegateLibraryError(f"delegate library: its file must exist. Received: {path}, which does not. {mend}")
    return path


@functools.lru_cache(maxsize=None)
def _load(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise DelegateLibraryError(f"delegate library: it must load on this system. Received: {error}. Build it again on this machine.") from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, [*arguments, ctypes.POINTER(_Error)]
    for name in ("tfs_version", "tfs_isa_names", "tfs_active_isa", "tfs_status_string"):
        getattr(library, name).restype = ctypes.c_char_p
    library.tfs_status_string.argtypes = [ctypes.c_int32]
    library.tfs_encode_bound.restype = ctypes.c_uint64
    library.tfs_encode_bound.argtypes = [ctypes.POINTER(_Coding), ctypes.c_uint64]
    return library


def library() -> ctypes.CDLL:
    """The loaded library. Raises: DelegateLibraryError."""
    return _load(library_path())


def _call(name: str, *arguments) -> None:
    error = _Error()
    code = getattr(library(), name)(*arguments, ctypes.byref(error))
    if code != 0:
        kind = library().tfs_status_string(code).decode()
        raise NativeError(code, kind, error.message.decode(errors="replace"))


def _bytes_array(data) -> np.ndarray:
    """`data` (bytes-like) as uint8 at an aligned address, copied only if it lies at another one."""
    array = np.frombuffer(data, np.uint8)
    return array if array.ctypes.data % 4 == 0 else array.copy()


def version() -> str:
    """Version of the library."""
    return library().tfs_version().decode()


def isa_names() -> list[str]:
    """The instruction sets that the library has for this CPU, slowest first."""
    return library().tfs_isa_names().decode().split()


def active_isa() -> str:
    """The instruction set in use."""
    return library().tfs_active_isa().decode()


def force_isa(name: str | None) -> None:
    """Makes the whole process use one instruction set; None returns to the fastest. Raises: NativeError: it is not in `isa_names()`."""
    _call("tfs_force_isa", (name or "").encode())


def open_packed(packed) -> PackedInfo:
    """Checks a whole packed weight (bytes-like) and returns its header. Raises: NativeError."""
    data, info = _bytes_array(packed), PackedInfo()
    _call("tfs_open", data.ctypes.data, data.size, ctypes.byref(info))
    return info


def decode_tile(packed, tile: int, piece_rows: int = 0) -> np.ndarray:
    """The ids of one tile, int8 `(count,)` in tile order.

    Args:
        packed: the whole packed weight, bytes-like.
        tile: its number.
        piece_rows: decode at most so many rows of 32 ids at once; 0 means all. The result is the same.

    Raises: NativeError.
    """
    info = open_packed(packed)
    data, ids = _bytes_array(packed), np.empty(info.tile_ids(tile) if tile < info.num_tiles else 0, np.int8)
    _call("tfs_decode_tile", data.ctypes.data, data.size, tile, piece_rows, ids.ctypes.data, ids.size)
    return ids


def expand(packed, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of `shape` that a packed weight stands for: float32, or int8 for value kind `integer`. Raises: NativeError."""
    info, data = open_packed(packed), _bytes_array(packed)
    output = np.empty(shape, np.int8 if info.value_kind == VALUE_KINDS["integer"] else np.float32)
    _call("tfs_expand", data.ctypes.data, data.size, output.ctypes.data, output.nbytes)
    return output


def encode_tile(ids: np.ndarray, codec: str, parameters) -> bytes:
    """Encodes one tile; the bytes equal `converter.codecs`'.

    Args:
        ids: int8 `(count,)` in tile order.
        codec: name of the codec.
        parameters: has the attributes of `converter.codecs.CodecParameters`.

    Raises: NativeError.
    """
    ids = np.ascontiguousarray(ids, np.int8)
    coding = _Coding(CODECS[codec], parameters.raw_bits, parameters.num_symbols, parameters.has_escape, parameters.base,
                     (ctypes.c_uint8 * 16)(*parameters.frequencies))
    tile = np.empty(library().tfs_encode_bound(ctypes.byref(coding), ids.size), np.uint8)
    tile_bytes = ctypes.c_uint64()
    _call("tfs_encode_tile", ctypes.byref(coding), ids.ctypes.data, ids.size, tile.ctypes.data, tile.size, ctypes.byref(tile_bytes))
    return tile[: tile_bytes.value].tobytes()


def round_block(weights, asked, matrix, importance, states, dependent: bool) -> tuple[np.ndarray, np.ndarray]:
    """What `converter.trellis.round_block` returns, which explains the arguments. Raises: NativeError."""
    arrays = [np.ascontiguousarray(array, np.float32) for array in (weights, asked, matrix, importance)]
    block = _TrellisBlock(*(array.ctypes.data for array in arrays), *arrays[0].shape, dependent)
    ids, values = (np.empty(arrays[0].shape, np.int8) for _ in range(2))
    _call("tfs_round_block", ctypes.byref(block), states.ctypes.data, ids.ctypes.data, values.ctypes.data)
    return ids, values
