"""Builds libtflite_smart_delegate.so with cmake and ninja; everything else stands in setup.cfg.

The library has a plain C interface and links neither Python nor TFLite, so one wheel serves every Python 3: py3-none-<platform>.
Compiler: $CXX, else c++, g++ or clang++ on the PATH, else the one in the PyPI package `ziglang`, which pip then installs
for the time of the build. TFLITE_SMART_TARGET=linux-aarch64 (or another key of LINUX in delegates/cross_build.py) makes the wheel of
another machine, through ziglang: `make wheels`.
"""

import importlib.util
import os
from pathlib import Path
import platform
import shlex
import shutil

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LIBRARY = "libtflite_smart_delegate"
TARGET_VARIABLE = "TFLITE_SMART_TARGET"
NO_COMPILER = (
    "tflite_smart: no C++ compiler found. Install one (Debian: `apt install g++`) or its replacement from PyPI "
    "(`pip install ziglang`), or name one in the environment variable CXX, then run the same command again.")


def load_cross_build():
    """delegates/cross_build.py by its path: the package that it belongs to is not installed yet."""
    spec = importlib.util.spec_from_file_location("cross_build", ROOT / "delegates" / "cross_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cross_build = load_cross_build()


def find_compiler() -> str | None:
    """Returns the path of a C++ compiler, or None."""
    wanted = os.environ.get("CXX")
    for name in [shlex.split(wanted)[0]] if wanted else ["c++", "g++", "clang++"]:
        if path := shutil.which(name):
            return path
    return None


def wanted_target():
    """Returns (name, Target) of the machine that TFLITE_SMART_TARGET names, or (None, None) for this one."""
    name = os.environ.get(TARGET_VARIABLE)
    if not name:
        return None, None
    if name not in cross_build.LINUX:
        raise SystemExit(f"tflite_smart: {TARGET_VARIABLE} must be one of {', '.join(cross_build.LINUX)}. Received: {name}.")
    return name, cross_build.LINUX[name]


def host_target():
    """The zig target of this machine, for when it has no compiler of its own."""
    for name, target in cross_build.LINUX.items():
        if target.processor == platform.machine():
            return name, target
    raise SystemExit(NO_COMPILER)


class BuildLibrary(build_ext):
    """Runs cmake; setuptools then puts the result in the wheel, or beside the sources for `pip install -e`."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext: Extension) -> None:
        name, target = wanted_target()
        if target is None and find_compiler() is None:
            if not cross_build.has_zig():
                raise SystemExit(NO_COMPILER)
            name, target = host_target()
        # One folder per machine and compiler: objects of two compilers must not meet in one library.
        folder = ROOT / "build" / (f"zig-{name}" if target else f"{Path(find_compiler()).name}-{platform.machine()}")
        try:
            cross_build.build(folder, target=target)
        except cross_build.BuildError as error:
            raise SystemExit(f"tflite_smart: building {LIBRARY}.so failed (see above). {error}") from None
        cross_build.install(folder / f"{LIBRARY}.so", Path(self.get_ext_fullpath(ext.name)).resolve().parent)


class PlatformWheel(bdist_wheel):
    """Tags the wheel py3-none-<platform>: it holds machine code, but none that knows a Python version."""

    def run(self) -> None:
        # What an earlier build left there, of another machine or since deleted, must not get into this wheel.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        _, target = wanted_target()
        return "py3", "none", target.wheel_platform if target else super().get_tag()[2]


setup(
    ext_modules=[Extension(f"tflite_smart.delegates.{LIBRARY}", sources=[])],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel},
    # Read by pip when it prepares the isolated build environment.
    setup_requires=["ziglang"] if os.environ.get(TARGET_VARIABLE) or not find_compiler() else [],
)
