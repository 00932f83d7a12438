"""Runs models that may be damaged in a process of their own, and says what came of each: for tests and fuzzers.

A process that dies takes one model with it, and the next goes on with the rest. In the process: `python -m tests.hostile`, lengths and models on its standard input, one line of
JSON for each on its standard output.
"""

import collections
import json
import os
import queue
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAX_MEMORY_BYTES = 3 << 30
MAX_SECONDS = 30  # for one model
MAX_TRACE = 20_000  # characters: all of a sanitizer's trace, whose first line names the culprit
_ROOT = Path(__file__).resolve().parents[1]


class Outcome(NamedTuple):
    """kind: `named` (our error), `litert` (its error), `valid` (it ran), `hang`, or `crash`. detail: the message, or a digest of the outputs."""

    kind: str
    detail: str


class Judge:
    """A process that runs models; started again when one kills it."""

    def __init__(self, environment: dict[str, str] | None = None):
        self._environment = {**os.environ, **(environment or {})}
        self._process = None

    def outcomes(self, models: Iterable[bytes]) -> Iterator[Outcome]:
        for model in models:
            yield self.outcome(model)

    def outcome(self, model: bytes) -> Outcome:
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(struct.pack("<I", len(model)) + model)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died between two models: the answer below is empty
        try:
            line = self._lines.get(timeout=MAX_SECONDS)
        except queue.Empty:
            self.close()
            return Outcome("hang", f"over {MAX_SECONDS} s")
        if line:
            return Outcome(*json.loads(line))
        self._process.wait()
        code = self._process.returncode
        errors = self.close()
        return Outcome("crash", f"exit code {code}: {errors[-MAX_TRACE:]}")

    def close(self) -> str:
        """Ends the process; returns what it wrote to its standard error."""
        if self._process is None:
            return ""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        self._errors.close()
        self._process = None
        return text

    def _start(self) -> None:
        import tempfile

        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen([sys.executable, "-m", "tests.hostile"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                                         env=self._environment, cwd=_ROOT)  # fmt: skip
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()

    @staticmethod
    def _read(stream, lines: queue.Queue) -> None:
        for line in stream:
            lines.put(line)
        lines.put(b"")


def count(outcomes: Iterable[Outcome]) -> collections.Counter:
    return collections.Counter(outcome.kind for outcome in outcomes)


def run(model: bytes) -> Outcome:
    """Opens the model and runs it once, on inputs of ones."""
    import hashlib

    import tflite_smart as ts

    try:
        interpreter = ts.Interpreter(model_content=model)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.ones(detail["shape"], detail["dtype"]))
        interpreter.invoke()
        digest = hashlib.blake2b(digest_size=8)
        for detail in interpreter.get_output_details():
            digest.update(interpreter.get_tensor(detail["index"]).tobytes())
        return Outcome("valid", digest.hexdigest())
    except MemoryError as error:
        return Outcome("litert", f"MemoryError: {error}")
    except (ValueError, RuntimeError, TypeError) as error:
        ours = "TFLiteSmart" in str(error) and " must be " in str(error)
        return Outcome("named" if ours else "litert", f"{type(error).__name__}: {error}"[:1000])


def main() -> None:
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # its shadow takes terabytes of addresses
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    while length := sys.stdin.buffer.read(4):
        outcome = run(sys.stdin.buffer.read(struct.unpack("<I", length)[0]))
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
