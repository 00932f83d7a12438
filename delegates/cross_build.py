"""Builds the delegate library with cmake, for this machine or, through the PyPI package `ziglang`, for another one.

setup.py runs it from the source folder and `tflite_smart delegate --target` from an installed package, which holds the same C++ sources
beside this file. So only the standard library is imported here.
"""

import contextlib
import dataclasses
import importlib.util
import os
from pathlib import Path
import shlex
import shutil
import subprocess
import sys
import tempfile

SOURCES = Path(__file__).resolve().parent
LIBRARY_NAME = "libtflite_smart_delegate.so"
# The oldest glibc that the library asks for: Debian 10, Raspberry Pi OS "buster", manylinux_2_28. A library built against the
# builder's own glibc would not load on anything older.
GLIBC = "2.28"


class BuildError(RuntimeError):
    """The library can't be built: a tool is missing, or the compiler failed."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine to build for.

    Attributes:
        triple: its name in zig and LLVM.
        processor: its name in cmake, `uname -m` and wheel tags.
    """

    triple: str
    processor: str

    @property
    def wheel_platform(self) -> str:
        return f"manylinux_{GLIBC.replace('.', '_')}_{self.processor}"


TARGETS = {
    "linux-x86_64": Target(f"x86_64-linux-gnu.{GLIBC}", "x86_64"),
    "linux-aarch64": Target(f"aarch64-linux-gnu.{GLIBC}", "aarch64"),
    "linux-armv7": Target(f"arm-linux-gnueabihf.{GLIBC}", "armv7l"),
}


def has_zig() -> bool:
    return importlib.util.find_spec("ziglang") is not None


def find_tool(name: str) -> str | None:
    """The path of an executable: on the PATH, or where pip puts them for this Python even if its environment is not activated."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def build(folder: Path, *, target: Target | None = None, options: tuple[str, ...] = (), goal: str = "tflite_smart_delegate", quiet: bool = False) -> Path:
    """Builds `goal` in `folder` and returns that folder.

    Args:
        folder: cmake's build folder; a second call with the same one builds only what has changed.
        target: the machine to build for; None is this one, with cmake's own choice of compiler.
        options: more `-D` options for cmake.
        goal: the cmake target.
        quiet: show the tools' output only if they fail.

    Raises: BuildError.
    """
    cmake, ninja = find_tool("cmake"), find_tool("ninja")
    if cmake is None:
        raise BuildError("cmake: it must be installed to build the delegate. Received: no such program. Run `pip install cmake ninja`.")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    toolchain = zig_toolchain(folder / "toolchain", target) if target else []
    _run([cmake, *generator, "-S", str(SOURCES), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *toolchain, *options], quiet)
    _run([cmake, "--build", str(folder), "--target", goal, "--parallel"], quiet)
    return folder


def build_library(output: Path, target: Target) -> Path:
    """Builds the library for another machine as `output`/libtflite_smart_delegate.so and returns that path. Raises: BuildError."""
    with tempfile.TemporaryDirectory(prefix="tflite_smart-") as folder:
        return install(build(Path(folder), target=target, quiet=True) / LIBRARY_NAME, output)


def install(library: Path, output: Path) -> Path:
    """Copies a built library into the folder `output`, never leaving half of one, and returns its path."""
    output.mkdir(parents=True, exist_ok=True)
    final = output / library.name
    partial = output / f".{library.name}.{os.getpid()}"
    try:
        shutil.copy(library, partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, final)  # also where the old one is loaded: a process that runs keeps it
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    return final


def zig_toolchain(folder: Path, target: Target) -> list[str]:
    """Writes `c++`, `cc`, `ar` and `ranlib` scripts around ziglang and returns the cmake options that select them.

    cmake wants one executable per tool. The target is always named, even for this machine: zig's default is the CPU it runs on.
    Raises: BuildError: ziglang is not installed.
    """
    if not has_zig():
        raise BuildError("ziglang: it must be installed to build for another machine. Received: no such package. Run `pip install ziglang`.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in {"c++": f"c++ -target {target.triple}", "cc": f"cc -target {target.triple}", "ar": "ar", "ranlib": "ranlib"}.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ziglang {arguments} "$@"\n')
        script.chmod(0o755)
    return [f"-DCMAKE_CXX_COMPILER={folder / 'c++'}", f"-DCMAKE_AR={folder / 'ar'}", f"-DCMAKE_RANLIB={folder / 'ranlib'}",
            "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={target.processor}"]


def _run(command: list[str], quiet: bool) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None, text=True, errors="replace")
    if done.returncode != 0:
        # Of a quiet build's pages of output the one line that says why.
        lines = [line for line in (done.stdout or "").splitlines() if line.strip()]
        reason = next((line for line in lines if "error:" in line.lower()), lines[-1] if lines else "see above")
        raise BuildError(f"{Path(command[0]).name}: it must succeed. Received: exit code {done.returncode} from `{shlex.join(command)}`: {reason}")
