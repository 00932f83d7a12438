"""What happens to the output when a conversion is killed, runs out of disk or memory, or meets another: it is the old file, none, or complete."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.bench import long_run
from tflite_smart import cli as command_line
from tflite_smart.inspect_model import inspect_model

OLD = b"the old file"


def start(source: str, output, *flags, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "tflite_smart.cli", "convert", source, "-o", str(output), "--recipe", "balanced", *flags]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def is_whole(path) -> bool:
    """A complete smart model, every packed weight in order."""
    return len(inspect_model(str(path))) > 0


@pytest.fixture(scope="module")
def seconds(float_model, tmp_path_factory) -> float:
    """How long a conversion takes here."""
    begin, output = time.monotonic(), tmp_path_factory.mktemp("whole") / "m.tflite"
    assert start(float_model, output).wait() == 0 and is_whole(output)
    return time.monotonic() - begin


@pytest.mark.parametrize("part", [0.6, 0.95])
def test_killed_at_any_moment(float_model, tmp_path, seconds, part):
    output = tmp_path / "m.tflite"
    output.write_bytes(OLD)
    process = start(float_model, output, "--overwrite")
    time.sleep(seconds * part)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert output.read_bytes() == OLD or is_whole(output)


def test_full_disk(float_model, tmp_path):
    """A limit on the size of files stands for it: the write in the middle of the model fails in the same place."""
    output = tmp_path / "m.tflite"
    output.write_bytes(OLD)
    process = start(float_model, output, "--overwrite", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)))
    errors = process.communicate()[1]
    assert process.returncode == 2 and "File too large" in errors and "Traceback" not in errors
    assert output.read_bytes() == OLD and os.listdir(tmp_path) == ["m.tflite"]


def test_out_of_memory(float_model, tmp_path, monkeypatch, capsys):
    """In the middle of the encoding: a plain message, nothing left behind."""
    from tflite_smart.converter import compress

    def no_memory(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(compress, "pack", no_memory)
    assert command_line.main(["convert", float_model, "-o", str(tmp_path / "m.tflite")]) == 2
    assert "memory" in capsys.readouterr().err and os.listdir(tmp_path) == []


def test_two_conversions_to_one_output(float_model, tmp_path):
    output = tmp_path / "m.tflite"
    both = [start(float_model, output) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    assert sum("output must not exist" in text for text in errors) == 1
    assert is_whole(output) and os.listdir(tmp_path) == ["m.tflite"]


@pytest.mark.parametrize("source", ["/proc/self/mem", "/dev/full"])
def test_unreadable_input(refused, tmp_path, source):
    refused("convert", source, "-o", tmp_path / "m.tflite")
    assert os.listdir(tmp_path) == []


def test_output_that_can_not_be_written(refused, float_model):
    """/proc is a folder in which nobody can make a file."""
    refused("convert", float_model, "-o", "/proc/m.tflite")


def test_memory_does_not_grow(capfd):
    """The short form of tests/bench/long_run.py."""
    assert long_run.run(100, 3000, 60, 8), capfd.readouterr().out
