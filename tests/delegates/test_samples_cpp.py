"""samples/cpp: the programs with the external delegate compile without a warning and give what Python gets."""

from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.delegates import models
from tests.delegates.running import run
from tflite_smart.delegates import cross_build, native

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[1] / "samples" / "cpp"
LIBRARY = native.library_path()
# What each of them is told before MODEL, INPUT and OUTPUT.
PROGRAMS = {"interpreter.c": [], "interpreter.cc": [LIBRARY]}


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request, tmp_path_factory) -> list[str]:
    """The command that runs a sample, without MODEL, INPUT, OUTPUT."""
    folder = tmp_path_factory.mktemp("sample")
    c, cxx = shutil.which("cc"), shutil.which("c++")
    if not c or not cxx:
        pytest.skip("no compiler")
    common = ["-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{SAMPLES}", f"-I{cross_build.SOURCES / 'include'}"]
    compiler = [c, "-std=c11"] if request.param.endswith(".c") else [cxx, "-std=c++17"]
    subprocess.run([c, "-std=c11", *common, "-c", HERE / "tflite_c_forward.c", "-o", folder / "forward.o"], check=True)
    subprocess.run([*compiler, *common, "-c", SAMPLES / request.param, "-o", folder / "sample.o"], check=True)
    subprocess.run([compiler[0], "-shared", folder / "sample.o", folder / "forward.o", LIBRARY, f"-Wl,-rpath,{Path(LIBRARY).parent}", "-ldl",
                    "-Wl,--no-undefined", "-o", folder / "sample.so"], check=True)
    return [sys.executable, str(HERE / "c_api_child.py"), str(folder / "sample.so"), *PROGRAMS[request.param]]


def test_gives_what_python_gets(program, rng, tmp_path):
    content = models.conv_model((1, 9, 11, 5), models.random_weight(rng, (70, 3, 3, 5), 0), (3, 3, 5), bias=rng.normal(size=70).astype(np.float32))
    x = rng.normal(size=(1, 9, 11, 5)).astype(np.float32)
    model, source, result = tmp_path / "m.tflite", tmp_path / "x.bin", tmp_path / "y.bin"
    model.write_bytes(content)
    x.tofile(source)
    done = subprocess.run([*program, model, source, result], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.fromfile(result, np.float32), run(content, x).reshape(-1))
    assert done.stdout.splitlines()[-1] == "left over: []"


def test_says_what_is_wrong(program, rng, tmp_path):
    model = tmp_path / "damaged.tflite"
    model.write_bytes(models.conv_model((1, 4, 4, 8), models.random_weight(rng, (33, 3, 3, 8), 0), (3, 3, 8)).replace(b"TFSW", b"TFSX"))
    done = subprocess.run([*program, model, model, tmp_path / "y"], capture_output=True, text=True)
    assert done.returncode == 1 and not (tmp_path / "y").exists()
    assert "preparing the model failed" in done.stderr and "TFLiteSmart.Conv2D" in done.stderr
