"""The delegate among everything else that a process may hold: TensorFlow with oneDNN, two runtimes, XNNPACK, two copies of itself, threads."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.delegates import models
from tests.delegates.running import run
from tflite_smart.delegates import native

ROOT = Path(__file__).resolve().parents[2]


def test_everything_at_once_in_one_process(rng, tmp_path):
    pytest.importorskip("tensorflow")
    content = models.two_layers_model(rng)
    x = rng.normal(size=(1, 6, 7, 5)).astype(np.float32)
    (tmp_path / "m.tflite").write_bytes(content)
    np.save(tmp_path / "x.npy", x)
    copy = shutil.copy(native.library_path(), tmp_path / "copy.so")
    done = subprocess.run([sys.executable, "-m", "tests.delegates.one_process_child", native.library_path(), copy, tmp_path / "m.tflite", tmp_path / "x.npy", tmp_path / "outputs.npz"],
                          env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_VERBOSE": "1"}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert outputs["together"].shape[:2] == (3, 40)
        for kind in ("alone", "together", "late"):
            np.testing.assert_array_equal(outputs[kind], np.broadcast_to(run(content, x), outputs[kind].shape))
        np.testing.assert_array_equal(outputs["keras_together"], np.broadcast_to(outputs["keras_alone"], outputs["keras_together"].shape))
        # All were there: our two convolutions and XNNPACK's ABS between them, and oneDNN's convolutions.
        assert list(outputs["ops"]).count("DELEGATE") == 3
        if outputs["onednn"]:
            assert "onednn_verbose" in done.stdout and "convolution" in done.stdout
