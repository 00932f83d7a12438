"""Sizes of files, and writing them whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
import tempfile
import zlib

from tflite_smart.converter.model_writer import commit


def zipped_bytes(path: str | os.PathLike) -> int:
    """Returns the size of the file deflated at level 9, as a .zip, an .apk or a compressing web server sends it."""
    packer = zlib.compressobj(9)
    total = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total += len(packer.compress(block))
    return total + len(packer.flush())


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator:
    """Yields a binary file that takes the place of `path` when the block ends well, and vanishes otherwise."""
    path = os.fspath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".tflite_smart-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        commit(temporary, path, overwrite=True)
    except BaseException:
        os.unlink(temporary)
        raise
