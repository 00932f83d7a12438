"""A .tflite in memory: reading, looking things up, small edits. Writing is in `model_writer`.

READ FIRST. A model may be larger than half of the memory, so its bytes are never copied: the file is memory-mapped and every constant is a numpy view of the
map. `schema` is the plain object tree of the flatbuffer (`ModelT`), with two changes that hide where bytes lie:

* `Buffer.offset / size` (constants stored outside the flatbuffer, used past 2 GB) and `Operator.large_custom_options_offset / size` are read into `data` and
  `customOptions`; `Model.outside` remembers which buffers these were, and the writer puts them outside again.
* Files that TFLite Metadata appends to a model as a ZIP archive (labels, vocabularies) are kept in `archive`.

Fields of a newer schema than ours are found by `unknown_fields` and carried through by the writer, or refused by name: never lost in silence.
"""

import collections
import dataclasses
import io
import math
import mmap
import os
import struct
import zipfile
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter import model_writer, operators, unknown_fields
from tflite_smart.converter.errors import ModelFormatError, UnsupportedModelError

NO_BUFFER = 0
FILE_IDENTIFIER = b"TFL3"
_CUSTOM = schema.BuiltinOperator.CUSTOM
_PLACEHOLDER = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
_OP_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_TYPE_NAMES = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
# Everything that reading a damaged flatbuffer through the generated classes can raise; they are memory-safe, but know no error of their own.
DAMAGE = (struct.error, ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError, MemoryError, AssertionError)

NUMPY_TYPES = {
    schema.TensorType.FLOAT32: np.dtype("<f4"), schema.TensorType.FLOAT16: np.dtype("<f2"), schema.TensorType.FLOAT64: np.dtype("<f8"),
    schema.TensorType.INT8: np.dtype("i1"), schema.TensorType.UINT8: np.dtype("u1"), schema.TensorType.INT16: np.dtype("<i2"),
    schema.TensorType.UINT16: np.dtype("<u2"), schema.TensorType.INT32: np.dtype("<i4"), schema.TensorType.UINT32: np.dtype("<u4"),
    schema.TensorType.INT64: np.dtype("<i8"), schema.TensorType.UINT64: np.dtype("<u8"), schema.TensorType.BOOL: np.dtype("?"),
}  # fmt: skip


@dataclasses.dataclass
class Model:
    """A .tflite that can be edited and written.

    Attributes:
        schema: the object tree, `ModelT`; constants are read-only numpy views.
        outside: indices of the buffers that lie behind the flatbuffer in the file.
        unknown: what the file holds that the schema has no name for; see `unknown_fields`.
        archive: names and bytes of appended files.
        file_bytes: size of the file that was read.
        address: where in memory it lies, for checks of alignment.
        mapping: the memory map, or None for a model given as bytes.
    """

    schema: schema.ModelT
    outside: set[int] = dataclasses.field(default_factory=set)
    unknown: list = dataclasses.field(default_factory=list)
    archive: list[tuple[zipfile.ZipInfo, bytes]] = dataclasses.field(default_factory=list)
    file_bytes: int = 0
    address: int = 0
    mapping: mmap.mmap | None = None

    @classmethod
    def read(cls, source: str | os.PathLike | bytes) -> "Model":
        """Reads a model from a path, memory-mapped, or from bytes.

        Raises:
            ModelFormatError: the file is missing, empty, damaged or of another kind.
            UnsupportedModelError: it holds something that can't be carried over.
        """
        if isinstance(source, (bytes, bytearray, memoryview)):
            name, data = "model", source if isinstance(source, bytes) else bytes(source)
        else:
            name, data = os.fspath(source), _map_file(source)
        if len(data) < 8 or bytes(data[4:8]) != FILE_IDENTIFIER:
            raise ModelFormatError(
                f"{name}: file identifier must be {FILE_IDENTIFIER.decode()}. Received: {bytes(data[4:8])!r}. Give a .tflite that the TFLite converter wrote."
            )
        try:
            reader = schema.Model.GetRootAs(data)
            tree = schema.ModelT.InitFromObj(reader)
            model = cls(tree, file_bytes=len(data), address=np.frombuffer(data, np.uint8).ctypes.data, mapping=data if isinstance(data, mmap.mmap) else None)
            model.unknown = unknown_fields.find(reader, tree)
            model._adopt_outside_bytes(data)
            model.check()
        except (ModelFormatError, UnsupportedModelError):
            raise
        except DAMAGE as error:
            raise ModelFormatError(
                f"{name}: flatbuffer must be whole. Received: a damaged one ({type(error).__name__}: {error}). The file is truncated or no model; get it again."
            ) from error
        model.archive = _read_archive(source, data)
        return model

    def write(self, path: str | os.PathLike, overwrite: bool = False, check: Callable[[str], None] | None = None) -> int:
        """Writes the model at once or not at all; returns its size in bytes. See `model_writer.write`."""
        return model_writer.write(self, path, overwrite, check)

    def release(self) -> None:
        """Lets go of the pages of the file that are in memory; they are read again when needed. Bounds the memory of a walk over all constants."""
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)

    # ---- looking things up

    def op_name(self, op: schema.OperatorT) -> str:
        """`CONV_2D`, or the custom code of a custom op."""
        code = self.schema.operatorCodes[op.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number == _CUSTOM:
            return text(code.customCode)
        return _OP_NAMES.get(number, f"BUILTIN_{number}")

    def op_version(self, op: schema.OperatorT) -> int:
        return self.schema.operatorCodes[op.opcodeIndex].version

    def op_number(self, op: schema.OperatorT) -> int:
        """The builtin code, whichever of the schema's two fields holds it."""
        code = self.schema.operatorCodes[op.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode)

    def has_data(self, tensor: schema.TensorT) -> bool:
        """Whether the tensor is a constant whose bytes are in this file."""
        return self.buffer_bytes(tensor.buffer) > 0

    def is_constant(self, tensor: schema.TensorT) -> bool:
        return self.has_data(tensor) or tensor.externalBuffer != 0

    def buffer_bytes(self, index: int) -> int:
        data = self.schema.buffers[index].data
        return 0 if data is None else len(data)

    def values(self, tensor: schema.TensorT) -> np.ndarray:
        """A view of a constant tensor in its own type and shape."""
        data = self.schema.buffers[tensor.buffer].data
        return np.frombuffer(data, NUMPY_TYPES[tensor.type]).reshape(shape(tensor))

    def consumers(self, subgraph: schema.SubGraphT) -> dict[int, list[tuple[schema.OperatorT, int]]]:
        """For every tensor index the operators that read it, with the input's number."""
        found: dict[int, list] = {}
        for op in subgraph.operators or ():
            for number, tensor in enumerate(indices(op.inputs)):
                if tensor >= 0:
                    found.setdefault(tensor, []).append((op, number))
        return found

    def producers(self, subgraph: schema.SubGraphT) -> dict[int, schema.OperatorT]:
        """For every tensor index that an operator writes, that operator."""
        return {index: op for op in subgraph.operators or () for index in indices(op.outputs)}

    def buffers_outside_graph(self) -> set[int]:
        """Buffers that metadata refers to: never a weight."""
        held = {entry.buffer for entry in self.schema.metadata or ()}
        return held | set(indices(self.schema.metadataBuffer))

    # ---- edits

    def set_buffer(self, index: int, data: bytes | np.ndarray | None) -> None:
        self.schema.buffers[index].data = None if data is None else np.frombuffer(data, np.uint8)

    def add_tensor(self, subgraph: schema.SubGraphT, tensor: schema.TensorT) -> int:
        """Appends a tensor, so that no index changes; returns its index."""
        subgraph.tensors.append(tensor)
        return len(subgraph.tensors) - 1

    def add_constant(self, subgraph: schema.SubGraphT, name: str, values: np.ndarray) -> int:
        """Appends a constant tensor with a buffer of its own; returns the tensor's index."""
        self.schema.buffers.append(schema.BufferT(np.frombuffer(values.tobytes(), np.uint8)))
        kind = next(number for number, dtype in NUMPY_TYPES.items() if dtype == values.dtype)
        return self.add_tensor(subgraph, schema.TensorT(np.array(values.shape, np.int32), kind, len(self.schema.buffers) - 1, name.encode()))

    def drop_last_tensor(self, subgraph: schema.SubGraphT) -> None:
        """Takes back a tensor that was appended, and its buffer where it brought one."""
        buffer = subgraph.tensors.pop().buffer
        if buffer != NO_BUFFER:
            self._drop_last_buffer(buffer)

    def custom_code(self, name: str) -> int:
        """Index of the operator code of a custom op, added when new."""
        return self._code_index(_CUSTOM, name.encode(), 1)

    def builtin_code(self, number: int, version: int) -> int:
        """Index of the operator code of a builtin op, added when new."""
        return self._code_index(number, None, version)

    def _code_index(self, number: int, custom: bytes | None, version: int) -> int:
        for index, code in enumerate(self.schema.operatorCodes):
            if (max(code.builtinCode, code.deprecatedBuiltinCode), code.customCode, code.version) == (number, custom, version):
                return index
        self.schema.operatorCodes.append(schema.OperatorCodeT(min(number, _PLACEHOLDER), custom, version, number))
        return len(self.schema.operatorCodes) - 1

    def drop_unused_codes(self) -> None:
        """Removes the operator codes that no operator refers to, and gives the most frequent ones the lowest numbers."""
        operators = [op for subgraph in self.schema.subgraphs for op in subgraph.operators or ()]
        counts = collections.Counter(op.opcodeIndex for op in operators)
        used = sorted(counts, key=lambda index: (-counts[index], index))  # number 0 takes no byte in an operator's table
        new_index = {old: new for new, old in enumerate(used)}
        for op in operators:
            op.opcodeIndex = new_index[op.opcodeIndex]
        self.schema.operatorCodes = [self.schema.operatorCodes[old] for old in used]

    def metadata(self, name: str) -> bytes | None:
        """The bytes of the metadata entry of that name."""
        for entry in self.schema.metadata or ():
            if text(entry.name) == name:
                data = self.schema.buffers[entry.buffer].data
                return b"" if data is None else bytes(data)
        return None

    def set_metadata(self, name: str, data: bytes | None) -> None:
        """Sets, replaces or, with None, removes a metadata entry."""
        entries = self.schema.metadata = self.schema.metadata or []
        for entry in entries:
            if text(entry.name) == name:
                self.set_buffer(entry.buffer, data)
                if data is None:
                    entries.remove(entry)
                    self._drop_last_buffer(entry.buffer)
                return
        if data is not None:
            self.schema.buffers.append(schema.BufferT(np.frombuffer(data, np.uint8)))
            entries.append(schema.MetadataT(name.encode(), len(self.schema.buffers) - 1))

    def _drop_last_buffer(self, index: int) -> None:
        """Takes back a buffer that was appended; one in the middle stays, empty, because other buffers' indices must not change."""
        if index == len(self.schema.buffers) - 1:
            self.schema.buffers.pop()

    # ---- checks

    def check(self) -> None:
        """Every index in range and every constant as long as its shape says. Raises ModelFormatError."""
        num_buffers = len(self.schema.buffers or ())
        _require("model", "subgraphs", bool(self.schema.subgraphs), "none", "at least one")
        _require("model", "buffers", num_buffers > 0, "none", "at least the empty one")
        for entry in self.schema.metadata or ():
            _require(f"metadata {text(entry.name)}", "buffer", 0 <= entry.buffer < num_buffers, entry.buffer, f"below {num_buffers}")
        for subgraph in self.schema.subgraphs:
            subgraph.tensors = subgraph.tensors or []
            for index, tensor in enumerate(subgraph.tensors):
                self._check_tensor(index, tensor, num_buffers)
            self._check_operators(subgraph)

    def _check_tensor(self, index: int, tensor: schema.TensorT, num_buffers: int) -> None:
        name = tensor_name(tensor) or f"tensor {index}"
        _require(name, "buffer", 0 <= tensor.buffer < num_buffers, tensor.buffer, f"below {num_buffers}")
        dtype = NUMPY_TYPES.get(tensor.type)
        stored = self.buffer_bytes(tensor.buffer)
        if dtype is None or stored == 0 or tensor.sparsity is not None:
            return
        _require(name, "shape", min(shape(tensor), default=0) >= 0, shape(tensor), "of lengths of at least 0")
        expected = math.prod(shape(tensor)) * dtype.itemsize
        _require(name, "buffer size", stored == expected, f"{stored} bytes", f"{expected} bytes for {_TYPE_NAMES[tensor.type]} {shape(tensor)}")

    def _check_operators(self, subgraph: schema.SubGraphT) -> None:
        num_tensors, num_codes = len(subgraph.tensors), len(self.schema.operatorCodes or ())
        where = f"subgraph {text(subgraph.name) or 'main'}"
        named = [("inputs", subgraph.inputs), ("outputs", subgraph.outputs)]
        for op in subgraph.operators or ():
            _require(where, "opcode_index", 0 <= op.opcodeIndex < num_codes, op.opcodeIndex, f"below {num_codes}")
            named += [("operator inputs", op.inputs), ("operator outputs", op.outputs), ("operator intermediates", op.intermediates)]
        for field, values in named:
            array = np.asarray(indices(values), np.int64)
            _require(where, field, np.all((array >= -1) & (array < num_tensors)), array.tolist()[:8], f"tensor numbers below {num_tensors}")
        ranks = [len(shape(tensor)) for tensor in subgraph.tensors]
        for op in subgraph.operators or ():
            name = self.op_name(op)
            problem = operators.broken(name, indices(op.inputs), indices(op.outputs), ranks)
            if problem:
                field, received, expected = problem
                _require(f"{name} in {where}", field, False, received, expected)

    def _adopt_outside_bytes(self, data: bytes | mmap.mmap) -> None:
        for index, buffer in enumerate(self.schema.buffers or ()):
            if buffer.offset > 1:  # 0 and 1 mean: not used
                buffer.data = _slice(data, f"buffer {index}", buffer.offset, buffer.size)
                self.outside.add(index)
                buffer.offset = buffer.size = 0
        for subgraph in self.schema.subgraphs or ():
            for op in subgraph.operators or ():
                if op.largeCustomOptionsOffset > 1:
                    op.customOptions = _slice(data, "custom options", op.largeCustomOptionsOffset, op.largeCustomOptionsSize)
                    # `outside` for operators is kept where the schema keeps it: a non-zero size asks the writer to place the options outside again.
                    op.largeCustomOptionsOffset = 0


def indices(values) -> list[int]:
    """A vector of the schema, which may be None, a list or an array, as plain ints."""
    return [] if values is None else [int(value) for value in values]


def shape(tensor: schema.TensorT) -> tuple[int, ...]:
    return tuple(indices(tensor.shape))


def text(value: bytes | str | None) -> str:
    """A string of the schema, which the generated code leaves as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def tensor_name(tensor: schema.TensorT) -> str:
    return text(tensor.name)


def type_name(number: int) -> str:
    """`float32`, `int8`, ... of a TensorType."""
    return _TYPE_NAMES.get(number, f"type {number}").lower()


def _map_file(path: str | os.PathLike) -> mmap.mmap | bytes:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelFormatError(f"{os.fspath(path)}: path must be a readable .tflite. Received: {error.strerror}. Check the path.") from error


def _slice(data: bytes | mmap.mmap, name: str, offset: int, size: int) -> np.ndarray:
    _require(name, "offset + size", offset + size <= len(data), offset + size, f"inside the file of {len(data)} bytes")
    return np.frombuffer(data, np.uint8, size, offset)


def _read_archive(source: str | os.PathLike | bytes, data: bytes | mmap.mmap) -> list[tuple[zipfile.ZipInfo, bytes]]:
    # An archive's directory ends within 64 KiB + 22 bytes of the end of the file.
    if data[-(1 << 16) - 22 :].rfind(b"PK\x05\x06") < 0:
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else source) as archive:
            return [(info, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []  # the four bytes were part of a weight


def _require(name: str, field: str, condition: bool, received: object, expected: object) -> None:
    if not condition:
        raise ModelFormatError(f"{name}: {field} must be {expected}. Received: {field}={received}. The file is damaged; get it again.")
