"""A conversion that was interrupted, or killed, goes on from what it had measured, and ends with the same bytes."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.converter.rewriting import plain_models
from tests.tflite_smart.test_faults import start
from tflite_smart.converter import search, sensitivity
from tflite_smart.converter.convert import convert
from tflite_smart.converter.errors import InputError
from tflite_smart.converter.layer_statistics import Factors
from tflite_smart.converter.notebook import Notebook, digest


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(8, 5, 5, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model") / "float.tflite"
    path.write_bytes(plain_models()[0])
    return str(path)


@pytest.fixture(scope="module")
def undisturbed(model, data, tmp_path_factory) -> bytes:
    output = tmp_path_factory.mktemp("undisturbed") / "m.tflite"
    convert(model, "balanced", {"x": data}, output)
    return output.read_bytes()


@pytest.fixture
def counts(monkeypatch) -> dict[str, int]:
    """How often a sensitivity, a budget and a layer's inputs were measured."""
    found = {}

    def count(owner, name):
        original = getattr(owner, name)

        def counted(*arguments, **options):
            found[name] = found.get(name, 0) + 1
            return original(*arguments, **options)

        found[name] = 0
        monkeypatch.setattr(owner, name, counted)

    for owner, name in ((sensitivity, "_sensitivity"), (search.Search, "_measure"), (Factors, "save")):
        count(owner, name)
    return found


def test_killed_and_resumed(model, data, undisturbed, counts, tmp_path):
    convert(model, "balanced", {"x": data}, tmp_path / "m.tflite")
    num_figures = counts["_sensitivity"] + counts["_measure"]
    counts.update(dict.fromkeys(counts, 0))
    os.unlink(tmp_path / "m.tflite")
    np.savez(tmp_path / "x.npz", x=data)
    process = start(model, tmp_path / "m.tflite", "--calibration-data", str(tmp_path / "x.npz"), "--work-folder", str(tmp_path / "work"))
    while len(measured(tmp_path / "work")) < 4 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(measured(tmp_path / "work"))
    assert before >= 4 and not (tmp_path / "m.tflite").exists()
    convert(model, "balanced", {"x": data}, tmp_path / "m.tflite", work_folder=tmp_path / "work")
    assert (tmp_path / "m.tflite").read_bytes() == undisturbed
    assert counts["save"] == 0 and counts["_sensitivity"] + counts["_measure"] + before == num_figures
    assert os.listdir(tmp_path / "work") == []


@pytest.mark.parametrize("phase, done", [("calibrate", 1), ("measure layers", 2), ("search", 2), ("encode", 1)])
def test_interrupted_and_resumed(model, data, undisturbed, counts, tmp_path, phase, done):
    def interrupt(name, now, total):
        if (name, now) == (phase, done):
            raise KeyboardInterrupt

    def run(progress=None):
        for name in counts:
            counts[name] = 0
        convert(model, "balanced", {"x": data}, tmp_path / "m.tflite", work_folder=tmp_path / "work", progress=progress)
        return dict(counts)

    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    first, second = dict(counts), run()
    assert (tmp_path / "m.tflite").read_bytes() == undisturbed
    assert first["save"] >= 2 and second["save"] == 0
    assert first["_sensitivity"] + second["_sensitivity"] == 12  # three weights, with four errors each
    assert phase != "search" or first["_measure"] == done
    assert os.listdir(tmp_path / "work") == []


def measured(work: Path) -> list[str]:
    return [line for path in work.glob("*/measured") for line in path.read_text().splitlines()]


def test_a_line_that_was_cut_is_measured_again(tmp_path):
    notebook = Notebook(str(tmp_path / "n"))
    assert notebook.remembered("a", lambda: 0.1 + 0.2) == 0.1 + 0.2 and notebook.remembered("b", lambda: [1, None]) == [1, None]
    path = tmp_path / "n" / "measured"
    path.write_bytes(path.read_bytes()[:-3])
    again = Notebook(str(tmp_path / "n"))
    assert again.remembered("a", lambda: None) == 0.1 + 0.2  # every digit
    assert again.remembered("b", lambda: "anew") == "anew"
    assert Notebook(str(tmp_path / "n")).remembered("b", lambda: None) == "anew"


def test_other_subjects_begin_afresh(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    subjects = [(tmp_path / "a", "r", None), (tmp_path / "a", "s", None), (b"1", "r", None), (b"1", "r", np.zeros(3)), (b"1", "r", np.zeros((3, 1))), (b"1", "r", {"x": np.zeros(3)})]
    assert len({digest(*each) for each in subjects}) == len(subjects)
    before = digest(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"2")
    assert digest(tmp_path / "a") != before


def test_a_work_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: work folder must be one to write in, or a new one. Received: Not a directory. Name another."):
        Notebook.about(tmp_path / "file", "subject")
