"""What happens to the output when a conversion is killed, runs out of disk or memory, or meets another: it is the old file, none, or complete."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest

from tests.bench import long_run
from tflite_smart import cli as command_line
from tflite_smart.converter import compress
from tflite_smart.converter.convert import convert
from tflite_smart.converter.errors import OutputExistsError, TFLiteSmartError
from tflite_smart.inspect_model import inspect_model

OLD = b"the old file"


def start(source: str, output, *flags, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "tflite_smart.cli", "convert", source, "-o", str(output), "--recipe", "balanced", *flags]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def is_whole(path) -> bool:
    """A complete smart model, every packed weight in order."""
    return len(inspect_model(str(path))) > 0


RECIPE = {"global_config": {"relative_error": 0.05}}  # no search: nothing runs on LiteRT, whose threads a fork would lack


def in_child(action) -> int:
    """Runs it in a fork; returns its exit code, or minus the signal that ended it. 99 for an exception."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = action() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def whole(float_model, tmp_path_factory) -> bytes:
    output = tmp_path_factory.mktemp("whole") / "m.tflite"
    convert(float_model, RECIPE, output=output)
    return output.read_bytes()


# Calls on the way to the output: (module, name), which one of them, and whether before or after it.
MOMENTS = [(where, name, count, after) for where, name, most in ((compress, "pack", 2), (os, "fsync", 2), (os, "chmod", 2), (os, "replace", 2)) for count in range(1, most + 1) for after in (False, True)]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: f"{'after' if m[3] else 'before'}-{m[1]}-{m[2]}")
def test_killed_at_any_moment(float_model, whole, tmp_path, moment):
    """SIGKILL in the encoder, between two writes, before and after each rename: of the weights' file, which is checked, and of the output."""
    where, name, count, after = moment
    output, calls, original = tmp_path / "m.tflite", [], getattr(where, name)
    output.write_bytes(OLD)

    def deadly(*arguments, **options):
        calls.append(1)
        result = original(*arguments, **options) if after or len(calls) != count else None
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def run():
        setattr(where, name, deadly)
        convert(float_model, RECIPE, output=output, overwrite=True)

    assert in_child(run) == -signal.SIGKILL
    finished = (name, count, after) == ("replace", 2, True)
    assert output.read_bytes() == (whole if finished else OLD)
    assert all(left == "m.tflite" or left.startswith(".") for left in os.listdir(tmp_path))


def test_killed_from_outside(float_model, tmp_path):
    """The command, in the middle of what it does."""
    output = tmp_path / "m.tflite"
    output.write_bytes(OLD)
    process = start(float_model, output, "--overwrite")
    time.sleep(1)
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

    def no_memory(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(compress, "pack", no_memory)
    assert command_line.main(["convert", float_model, "-o", str(tmp_path / "m.tflite")]) == 2
    assert "memory" in capsys.readouterr().err and os.listdir(tmp_path) == []


def test_address_space_that_ends_early(float_model, whole, tmp_path):
    """The system refuses memory at different places, in numpy and in the library: a plain message or, with enough, the whole output."""
    output, codes = tmp_path / "m.tflite", []
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    def run(room):
        resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
        try:
            convert(float_model, RECIPE, output=output)
        except (MemoryError, TFLiteSmartError):  # both of which the command tells in a line
            return 2

    for room in (0, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 29):
        codes.append(in_child(lambda room=room: run(room)))
        assert codes[-1] == 2 and not output.exists() or codes[-1] == 0 and output.read_bytes() == whole
        assert os.listdir(tmp_path) == (["m.tflite"] if output.exists() else [])
        output.unlink(missing_ok=True)
    assert codes[0] == 2 and codes[-1] == 0


def test_read_only_folder(float_model):
    """As a user who may not write there; root may, so the test becomes somebody else."""
    with tempfile.TemporaryDirectory() as folder:
        source, closed = Path(folder, "m.tflite"), Path(folder, "closed")
        shutil.copy(float_model, source)
        closed.mkdir()
        for path, mode in ((source, 0o644), (closed, 0o555), (Path(folder), 0o755)):
            path.chmod(mode)

        def run():
            if os.geteuid() == 0:
                os.setuid(65534)
            with pytest.raises(OutputExistsError, match="folder must be writable"):
                convert(source, RECIPE, output=closed / "out.tflite")

        assert in_child(run) == 0
        assert os.listdir(closed) == []


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


def test_memory_does_not_grow():
    """The short form of tests/bench/long_run.py, in a process of its own: what the allocator does with the gigabytes of all tests before says nothing."""
    command = [sys.executable, long_run.__file__, "--cycles", "100", "--inferences", "3000", "--resizes", "60"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
