"""The thread pool under GCC's thread sanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

DELEGATES = Path(__file__).resolve().parents[2] / "delegates"


def test_no_data_race(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    sources = [DELEGATES / "fuzz" / "threads.cc", DELEGATES / "core" / "thread_pool.cc"]
    program = tmp_path / "threads"
    built = subprocess.run([compiler, "-std=c++17", "-O1", "-g", "-fsanitize=thread", f"-I{DELEGATES}", *map(str, sources), "-pthread", "-o", str(program)],
                           capture_output=True, text=True)  # fmt: skip
    if "cannot find" in built.stderr:
        pytest.skip("this g++ has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
