"""C programs against LiteRT's C API, compiled for the tests."""

import importlib.resources
import shutil
import subprocess
from pathlib import Path

import ai_edge_litert
import pytest

from tflite_smart.delegates import native

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "cpp"


def compiled_with_litert(source: Path, folder: Path) -> Path:
    """The program, linked with LiteRT's library and ours as the README of samples/cpp says; skips where there is no compiler or no library."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    litert = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
    if not litert.exists():
        pytest.skip("this ai-edge-litert has no libLiteRt.so")
    header = importlib.resources.files("tflite_smart.delegates") / "include"
    libraries = [str(litert), native.library_path()]
    subprocess.run([compiler, "-std=c11", "-Wall", "-Werror", f"-I{header}", f"-I{SAMPLES}", str(source), *libraries,
                    *[f"-Wl,-rpath,{Path(path).parent}" for path in libraries], "-o", str(folder / source.stem)], check=True)
    return folder / source.stem
