"""Runs inside the emulated machine: the cases of cases.py give what they gave on the host, integers exactly."""

import os
from pathlib import Path
import sys

import numpy as np
import pytest

from tests.arm64.conftest import CASES_VARIABLE, PYTHON_VARIABLE
from tests.arm64.running import invoke, reference_interpreter
from tflite_smart import cli
from tflite_smart.delegates import native

CASES = Path(os.environ[CASES_VARIABLE])
NAMES = sorted(path.stem for path in CASES.glob("*.npz"))
LARGE_BYTES = 1_000_000  # models above it run once: emulation is slow


def check(name: str, outputs: list[np.ndarray]) -> None:
    with np.load(CASES / f"{name}.npz") as case:
        for i, output in enumerate(outputs):
            expected = case[f"output_{i}"]
            assert (output.shape, output.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(output, expected, rtol=0, atol=float(case[f"tolerance_{i}"]))


def run(name: str) -> list[np.ndarray]:
    interpreter = reference_interpreter(CASES / f"{name}.tflite")
    with np.load(CASES / f"{name}.npz") as case:
        return invoke(interpreter, [case[f"input_{i}"] for i in range(len(interpreter.get_input_details()))])


def test_there_are_cases():
    assert len(NAMES) >= 10


def test_the_processors_best_instructions_are_used():
    assert native.active_isa() == {"cortex-a72": "neon", "cortex-a76": "neondot"}[os.environ["QEMU_CPU"]]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_hosts(name):
    check(name, run(name))


@pytest.mark.parametrize("name", [n for n in NAMES if (CASES / f"{n}.tflite").stat().st_size < LARGE_BYTES])
def test_every_instruction_set_gives_the_hosts_outputs(name):
    for isa in native.isa_names():
        native.force_isa(isa)
        try:
            check(name, run(name))
        finally:
            native.force_isa(None)


def test_command_line(tmp_path, capfd, monkeypatch):
    """`run` and `benchmark` of the installed wheel. The latter starts processes of its own: through the script that is the emulated Python."""
    monkeypatch.setattr(sys, "executable", os.environ[PYTHON_VARIABLE])
    model, x, y = str(CASES / "network.tflite"), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    with np.load(CASES / "network.npz") as case:
        np.save(x, case["input_0"])
    assert cli.main(["run", model, "--input", x, "--output", y]) == 0
    check("network", [np.load(y)])
    assert cli.main(["benchmark", model, "--num-runs", "2", "--warmup-runs", "1", "--rounds", "1", "--json"]) == 0
    assert '"latency_ms"' in capfd.readouterr().out
