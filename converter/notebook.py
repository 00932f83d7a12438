"""What a long conversion has found out so far, kept on the disk: one that was interrupted, or killed, goes on from there.

A conversion has a folder of its own in the one that the user names, called after a digest of everything that the figures depend on, so that another model, recipe or
version, or other data, begin afresh. In it lie `measured`, a line of JSON for every figure, appended as it comes, and the files of `layer_statistics`. It goes when the
conversion is done.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping

import numpy as np

from tflite_smart.converter.errors import InputError

_CHUNK = 1 << 20


class Notebook:
    """Args: folder: where to keep what is found out; None forgets it. Raises: InputError: where nothing can be kept there."""

    def __init__(self, folder: str | None = None):
        self.folder, self._known = folder, {}
        if folder is not None:
            self._path = os.path.join(folder, "measured")
            try:
                os.makedirs(folder, exist_ok=True)
                self._known = _read(self._path)
            except OSError as error:
                raise InputError(f"{os.path.dirname(folder)}: work folder must be one to write in, or a new one. Received: {error.strerror}. Name another.") from None

    @classmethod
    def about(cls, work_folder: str | os.PathLike | None, *subjects) -> "Notebook":
        """The one of a conversion, in a folder that need not exist yet; see `digest` for the subjects."""
        return cls(None if work_folder is None else os.path.join(os.fspath(work_folder), digest(*subjects)))

    def remembered(self, key: str, measure: Callable[[], object]) -> object:
        """The figure of that name: from the disk, or measured now. `measure` returns what JSON can hold."""
        if key in self._known:
            return self._known[key]
        value = measure()
        if self.folder is not None:
            with open(self._path, "a") as file:
                file.write(json.dumps([key, value]) + "\n")
        return value

    def close(self) -> None:
        """Everything is done: forgets it."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def digest(*subjects) -> str:
    """Of paths (what is in the file), bytes, arrays, mappings of arrays, and of whatever else by its repr."""
    state = hashlib.blake2b(digest_size=12)
    for subject in subjects:
        _add(state, subject)
    return state.hexdigest()


def _add(state, subject) -> None:
    state.update(type(subject).__name__.encode())
    if isinstance(subject, Mapping):
        for name, value in subject.items():
            _add(state, str(name))
            _add(state, np.asarray(value))
    elif isinstance(subject, np.ndarray):
        state.update(f"{subject.dtype} {subject.shape}".encode())
        state.update(np.ascontiguousarray(subject))
    elif isinstance(subject, (bytes, bytearray, memoryview)):
        state.update(subject)
    elif isinstance(subject, (str, os.PathLike)) and os.path.isfile(subject):
        with open(subject, "rb") as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
    else:
        state.update(repr(subject).encode())


def _read(path: str) -> dict[str, object]:
    """The lines of the file; the last may have been cut where the process was killed."""
    if not os.path.exists(path):
        return {}
    with open(path, "r+b") as file:
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        file.truncate(len(whole))
    return dict(json.loads(line) for line in whole.splitlines())
