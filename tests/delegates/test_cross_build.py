"""Building the library for other machines: what is said when it can't be done. That it can is shown by `make wheels` and `make test-arm64`."""

from pathlib import Path
import subprocess
import sys

import pytest

from tflite_smart import cli
from tflite_smart.delegates import cross_build, native


def test_a_missing_cmake_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cross_build, "find_tool", lambda name: None)
    with pytest.raises(cross_build.BuildError, match="cmake: it must be installed.*pip install cmake"):
        cross_build.build(tmp_path)


def test_a_missing_ziglang_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cross_build, "find_tool", lambda name: name)
    monkeypatch.setattr(cross_build, "has_zig", lambda: False)
    assert cli.main(["delegate", "--target", "linux-aarch64", "-o", str(tmp_path / "out")]) == 2
    assert "ziglang: it must be installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_failing_tool_is_told_in_one_line(monkeypatch, tmp_path):
    tool = tmp_path / "cmake"
    tool.write_text("#!/bin/sh\necho many lines\necho kernels/x.cc:3: error: no such name\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setattr(cross_build, "find_tool", lambda name: str(tool) if name == "cmake" else None)
    with pytest.raises(cross_build.BuildError, match="exit code 3.*no such name") as caught:
        cross_build.build(tmp_path / "build", quiet=True)
    assert "many lines" not in str(caught.value)


def test_output_needs_a_target(capsys):
    assert cli.main(["delegate", "-o", "somewhere"]) == 2
    assert "--target" in capsys.readouterr().err


def test_unknown_targets_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["delegate", "--target", "linux-pdp11"])
    assert stopped.value.code == 2 and "linux-aarch64" in capsys.readouterr().err


def test_a_library_is_replaced_whole(tmp_path):
    source = Path(native.library_path())
    assert cross_build.install(source, tmp_path / "new") == tmp_path / "new" / source.name
    assert cross_build.install(source, tmp_path / "new").read_bytes() == source.read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [source.name]
    with pytest.raises(FileNotFoundError):
        cross_build.install(tmp_path / "missing.so", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_needs_only_the_standard_library():
    """setup.py runs it before anything is installed."""
    done = subprocess.run([sys.executable, "-I", "-S", str(cross_build.SOURCES / "cross_build.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
