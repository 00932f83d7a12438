"""Builds libtflite_smart_delegate.so with cmake and ninja; everything else stands in setup.cfg.

The library has a plain C interface and links neither Python nor TFLite, so one wheel serves every Python 3: py3-none-<platform>.
Compiler: $CXX, else c++, g++ or clang++ on the PATH, else the one in the PyPI package `ziglang`, which pip then installs
for the time of the build.
"""

import importlib.util
import os
from pathlib import Path
import platform
import shlex
import shutil
import stat
import subprocess
import sys

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LIBRARY = "libtflite_smart_delegate"
NO_COMPILER = (
    "tflite_smart: no C++ compiler found. Install one (Debian: `apt install g++`) or its replacement from PyPI "
    "(`pip install ziglang`), or name one in the environment variable CXX, then run the same command again.")


def find_compiler() -> str | None:
    """Returns the path of a C++ compiler, or None."""
    wanted = os.environ.get("CXX")
    for name in [shlex.split(wanted)[0]] if wanted else ["c++", "g++", "clang++"]:
        if path := shutil.which(name):
            return path
    return None


def zig_toolchain(folder: Path) -> list[str]:
    """Writes `c++`, `ar` and `ranlib` scripts around ziglang and returns the cmake options that select them.

    cmake wants one executable per tool. The target is named because zig's default is the CPU it runs on, and its
    glibc is pinned so that the library loads on systems older than the builder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = f"-target {platform.machine()}-linux-gnu.2.28"
    tools = {"c++": f"c++ {target}", "ar": "ar", "ranlib": "ranlib"}
    for name, arguments in tools.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ziglang {arguments} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    # -s: zig links its C++ library with all of its symbols.
    return [f"-DCMAKE_CXX_COMPILER={folder / 'c++'}", f"-DCMAKE_AR={folder / 'ar'}", f"-DCMAKE_RANLIB={folder / 'ranlib'}",
            "-DCMAKE_SHARED_LINKER_FLAGS=-s"]


class BuildLibrary(build_ext):
    """Runs cmake; setuptools then puts the result in the wheel, or beside the sources for `pip install -e`."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext: Extension) -> None:
        output = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        # One folder per machine and compiler: objects of two compilers must not meet in one library.
        build = ROOT / "build" / f"{Path(find_compiler() or 'zig').name}-{platform.machine()}"
        configure = ["cmake", "-G", "Ninja", "-S", str(ROOT / "delegates"), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release",
                     f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output}",
                     *self.compiler_options(build)]
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", str(build), "--target", "tflite_smart_delegate"], check=True)
        except FileNotFoundError:
            raise SystemExit("tflite_smart: cmake is missing. Run `pip install cmake ninja` or leave out --no-build-isolation.") from None
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"tflite_smart: building {LIBRARY}.so failed (see above): {shlex.join(error.cmd)}") from None

    def compiler_options(self, build: Path) -> list[str]:
        if find_compiler():
            return []  # cmake looks in the same places
        if importlib.util.find_spec("ziglang") is None:
            raise SystemExit(NO_COMPILER)
        return zig_toolchain(build / "toolchain")


class PlatformWheel(bdist_wheel):
    """Tags the wheel py3-none-<platform>: it holds machine code, but none that knows a Python version."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension(f"tflite_smart.delegates.{LIBRARY}", sources=[])],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel},
    # Read by pip when it prepares the isolated build environment.
    setup_requires=[] if find_compiler() else ["ziglang"],
)
