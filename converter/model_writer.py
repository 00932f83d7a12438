"""Writes a `Model` as a .tflite: aligned, whole or not at all, the same bytes for the same model.

The file is the flatbuffer's tables, then the constants, then what lies outside of the flatbuffer, then an archive of appended files:

    tables | len data | len data | ... | outside | outside | ... | zip

flatbuffers' Python builder would copy every constant several times and ignores `force_align`. Here it only ever sees the tables. A vector of constant bytes is
written straight from its numpy view to the file behind the tables, and the tables refer to it by a **negative builder offset**: the builder counts
offsets from the end of what it builds, so `-d` is `d` bytes behind that end.
"""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable

import flatbuffers
import numpy as np

from tflite_smart.converter import unknown_fields
from tflite_smart.converter.errors import OutputExistsError, UnsupportedModelError

LARGE_ALIGNMENT = 64  # a cache line
SMALL_ALIGNMENT = 16  # what the schema's `force_align` asks for
_LARGE_BYTES = 1 << 16  # from here on the padding is too little to matter
_FLATBUFFER_LIMIT = (1 << 31) - (1 << 16)  # offsets inside a flatbuffer are 31 bit; what lies outside of it has 64


def write(model, path: str | os.PathLike, overwrite: bool = False, check: Callable[[str], None] | None = None) -> int:
    """Writes under a temporary name in the same folder, forces it to the disk and renames it. Returns the size in bytes.

    Args:
        check: called with the temporary path before the rename; if it raises, nothing is left behind.

    Raises:
        OutputExistsError: the file is there and `overwrite` is False.
    """

    def fill(file) -> None:
        write_stream(model, file)
        if model.archive:
            _append_archive(file, model.archive)

    return _write_atomically(os.fspath(path), overwrite, fill, check)


def copy(source: str | os.PathLike | bytes, path: str, overwrite: bool = False) -> int:
    """The bytes of a file, or bytes, under another name, written as `write` does."""

    def fill(file) -> None:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as original:
                shutil.copyfileobj(original, file, 1 << 20)
        else:
            file.write(source)

    return _write_atomically(path, overwrite, fill)


def _write_atomically(path: str, overwrite: bool, fill: Callable, check: Callable[[str], None] | None = None) -> int:
    check_output(path, overwrite)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=os.path.dirname(path) or ".")
    try:
        with os.fdopen(handle, "w+b") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        commit(temporary, path, overwrite)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return os.path.getsize(path)


def check_output(path: str, overwrite: bool) -> None:
    """Fails before any work is done where the work could not be kept."""
    if not path:
        raise OutputExistsError("output: it must be the name of a file. Received: an empty one. Name one.")
    if os.path.isdir(path):
        raise OutputExistsError(f"{path}: output must be a file. Received: a folder. Name a file in it.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputExistsError(f"{path}: output must be a regular file. Received: a device, pipe or socket. Choose another name.")
    if os.path.exists(path) and not overwrite:
        raise OutputExistsError(f"{path}: output must not exist. Received: a file that does. Pass `overwrite` (--overwrite) to replace it.")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise OutputExistsError(f"{path}: output folder must exist. Received: {folder}, which does not. Create it first.")
    if not os.access(folder, os.W_OK):
        raise OutputExistsError(f"{path}: output folder must be writable. Received: {folder}, which is not. Choose another.")


def commit(temporary: str, path: str, overwrite: bool) -> None:
    """Gives a finished temporary file its name, with the permissions that a new file would have had. A file that came up meanwhile is kept unless `overwrite`."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike rename it never replaces
    except FileExistsError:
        raise OutputExistsError(f"{path}: output must not exist. Received: a file that does. Pass `overwrite` (--overwrite) to replace it.") from None
    except OSError:  # a file system without links
        os.replace(temporary, path)
        return
    os.unlink(temporary)


def write_stream(model, file) -> None:
    """Writes everything but the archive to an open file at position 0."""
    layout = _Layout(model)
    tables = _pack(model, layout, 0)
    # Where the outside bytes start is known only now; the second packing has the same size, because an offset is 8 bytes whatever its value.
    if layout.outside:
        start = len(tables) + layout.inside_bytes
        tables = _pack(model, layout, start)
    file.write(tables)
    layout.write(file)


def size(model) -> int:
    """Bytes that `write_stream` would write."""
    layout = _Layout(model)
    return len(_pack(model, layout, 0)) + layout.inside_bytes + layout.outside_bytes


class _Layout:
    """Where the bytes behind the tables go: positions relative to the end of the tables, which is 64-byte aligned."""

    def __init__(self, model):
        self.inside: list[tuple[int, np.ndarray]] = []  # position of the data, data
        self.outside: list[tuple[int, np.ndarray]] = []
        self.vectors: dict[int, int] = {}  # id of a BufferT's data -> position of its length word
        self.outside_buffers: dict[int, tuple[int, int]] = {}  # buffer index -> position, size
        self.outside_options: dict[int, tuple[int, int]] = {}  # id of an operator -> position, size
        self.inside_bytes = 0
        buffers = model.schema.buffers
        outside = set(model.outside) | _too_much(buffers)
        end = 0
        for index, buffer in enumerate(buffers):
            if buffer.data is not None and len(buffer.data) and index not in outside:
                data = np.ascontiguousarray(buffer.data)
                start = _aligned(end + 4, data)
                self.inside.append((start, data))
                self.vectors[id(buffer.data)] = start - 4
                end = start + len(data)
        self.inside_bytes = end
        if end > _FLATBUFFER_LIMIT:
            raise UnsupportedModelError(f"model: flatbuffer must be under 2 GB. Received: {end} bytes of small constants. Split the model.")
        self.outside_bytes = self._place_outside(model, outside)
        if self.outside:
            self.inside_bytes = -(-end // LARGE_ALIGNMENT) * LARGE_ALIGNMENT

    def _place_outside(self, model, outside: set[int]) -> int:
        buffers, end = model.schema.buffers, 0
        for index in sorted(outside):
            data = np.ascontiguousarray(buffers[index].data)
            start = -(-end // LARGE_ALIGNMENT) * LARGE_ALIGNMENT
            self.outside.append((start, data))
            self.outside_buffers[index] = start, len(data)
            end = start + len(data)
        for op in _operators(model.schema):
            if op.largeCustomOptionsSize > 0:
                start = -(-end // LARGE_ALIGNMENT) * LARGE_ALIGNMENT
                self.outside.append((start, np.asarray(op.customOptions)))
                self.outside_options[id(op)] = start, len(op.customOptions)
                end = start + len(op.customOptions)
        return end

    def write(self, file) -> None:
        position = 0
        for start, data in self.inside:
            file.write(bytes(start - 4 - position))
            file.write(len(data).to_bytes(4, "little"))
            file.write(memoryview(data))
            position = start + len(data)
        file.write(bytes(self.inside_bytes - position))
        position = 0
        for start, data in self.outside:
            file.write(bytes(start - position))
            file.write(memoryview(data))
            position = start + len(data)


# Longer vectors than this are not compared with each other. Shapes, lists of inputs, custom options and zero points, which many tables share, are shorter.
_SHARED_BYTES = 1 << 16


class _Builder(flatbuffers.Builder):
    """Refers byte vectors that the layout has placed to their places, stores equal short vectors and equal texts once, and adds the fields that the schema does not know."""

    __slots__ = ("placed", "written", "extra_fields")

    def __init__(self, placed: dict[int, int]):
        super().__init__(1 << 16)
        self.placed = placed
        self.written: dict[tuple[str, bytes], int] = {}
        self.extra_fields = unknown_fields.PendingFields()
        self.minalign = LARGE_ALIGNMENT  # so that the end of the tables, where the constants start, is aligned

    def CreateNumpyVector(self, x):
        position = self.placed.get(id(x))
        if position is not None:
            return -position
        if x.nbytes > _SHARED_BYTES:
            return super().CreateNumpyVector(x)
        return self._shared((x.dtype.str, x.tobytes()), super().CreateNumpyVector, x)

    def CreateString(self, s, encoding="utf-8", errors="strict"):
        data = s.encode(encoding, errors) if isinstance(s, str) else bytes(s)
        return self._shared(("text", data), super().CreateString, data)

    def _shared(self, key, create, value):
        if key not in self.written:
            self.written[key] = create(value)
        return self.written[key]

    def StartObject(self, numfields):
        super().StartObject(self.extra_fields.start_object(numfields))

    def EndObject(self):
        self.extra_fields.end_object(self)
        return super().EndObject()


def _pack(model, layout: _Layout, outside_start: int) -> bytearray:
    tree = model.schema
    builder = _Builder(layout.vectors)
    moved = _move_outside(tree, layout, outside_start)
    try:
        with unknown_fields.attached(model.unknown, builder):
            root = tree.Pack(builder)
    finally:
        _move_back(moved)
    builder.Finish(root, b"TFL3")
    return builder.Output()


def _move_outside(tree, layout: _Layout, start: int) -> list:
    """Turns the data of outside buffers and options into offsets while the tables are packed."""
    moved = []
    base = max(start, 2)  # any value above 1 will do to measure the size
    for index, (position, size) in layout.outside_buffers.items():
        buffer = tree.buffers[index]
        moved.append((buffer, "data", buffer.data, "offset", "size", buffer.size))
        buffer.data, buffer.offset, buffer.size = None, base + position, size
    for op in _operators(tree):
        if id(op) in layout.outside_options:
            position, size = layout.outside_options[id(op)]
            moved.append((op, "customOptions", op.customOptions, "largeCustomOptionsOffset", "largeCustomOptionsSize", op.largeCustomOptionsSize))
            op.customOptions, op.largeCustomOptionsOffset, op.largeCustomOptionsSize = None, base + position, size
    return moved


def _move_back(moved: list) -> None:
    for owner, data_field, data, offset_field, size_field, size in moved:
        setattr(owner, data_field, data)
        setattr(owner, offset_field, 0)
        setattr(owner, size_field, size)


def _operators(tree):
    return [op for subgraph in tree.subgraphs for op in subgraph.operators or ()]


def _aligned(position: int, data: np.ndarray) -> int:
    alignment = LARGE_ALIGNMENT if len(data) >= _LARGE_BYTES else SMALL_ALIGNMENT
    return -(-position // alignment) * alignment


def _too_much(buffers) -> set[int]:
    """The largest buffers, as many as must lie outside for the flatbuffer to stay below its limit."""
    sizes = {index: len(buffer.data) + LARGE_ALIGNMENT + 4 for index, buffer in enumerate(buffers) if buffer.data is not None}
    total, chosen = sum(sizes.values()), set()
    for index in sorted(sizes, key=lambda index: (-sizes[index], index)):
        if total <= _FLATBUFFER_LIMIT:
            break
        chosen.add(index)
        total -= sizes[index]
    return chosen


def _append_archive(file, files: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    """Appends files the way TFLite Metadata does; dates and compression are the original's, so the bytes are reproducible."""
    with zipfile.ZipFile(file, "a") as archive:
        for info, data in files:
            fresh = zipfile.ZipInfo(info.filename, info.date_time)
            fresh.compress_type, fresh.external_attr, fresh.comment = info.compress_type, info.external_attr, info.comment
            archive.writestr(fresh, data)


__all__ = ["LARGE_ALIGNMENT", "SMALL_ALIGNMENT", "check_output", "commit", "size", "write", "write_stream"]
