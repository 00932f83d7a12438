"""Builds the delegate library with cmake, for this machine or for another one: through the PyPI package `ziglang`, or, for Android, the NDK.

Android without its NDK: zig's compiler knows Android, but has none of its headers. The library uses so little of C (android/bionic_symbols.txt)
that the headers of musl, which zig has, declare the same: no structure crosses the border but mutexes and condition variables, which are
all zero at first in both and in musl at least as large. It is linked against empty libraries made from that list: what is not on it stops the build.

setup.py runs it from the source folder and `tflite_smart delegate --target` from an installed package, which holds the same C++ sources
beside this file. So only the standard library is imported here.
"""

import contextlib
import dataclasses
import errno
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
# The oldest Android, 6: what LiteRT 2 asks for too. As `minSdk` in android/build.gradle.kts.
ANDROID_API = 23
NDK_VARIABLE = "ANDROID_NDK_HOME"
BIONIC_SYMBOLS = SOURCES / "android" / "bionic_symbols.txt"


class BuildError(RuntimeError):
    """The library can't be built: a tool is missing, or the compiler failed."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine to build for.

    Attributes:
        triple: its name in zig and LLVM.
        processor: its name in cmake, `uname -m` and wheel tags.
        android_abi: its name in the NDK; empty for Linux.
        musl: the same processor with musl, in zig; only for Android, and empty where zig can't build for it.
    """

    triple: str
    processor: str
    android_abi: str = ""
    musl: str = ""

    @property
    def wheel_platform(self) -> str:
        return f"manylinux_{GLIBC.replace('.', '_')}_{self.processor}"


LINUX = {
    "linux-x86_64": Target(f"x86_64-linux-gnu.{GLIBC}", "x86_64"),
    "linux-aarch64": Target(f"aarch64-linux-gnu.{GLIBC}", "aarch64"),
    "linux-armv7": Target(f"arm-linux-gnueabihf.{GLIBC}", "armv7l"),
}
ANDROID = {
    "android-arm64": Target(f"aarch64-linux-android.{ANDROID_API}", "aarch64", "arm64-v8a", "aarch64-linux-musl"),
    "android-armv7": Target(f"arm-linux-androideabi.{ANDROID_API}", "armv7l", "armeabi-v7a"),  # its calls without float registers stop zig at NEON
    "android-x86_64": Target(f"x86_64-linux-android.{ANDROID_API}", "x86_64", "x86_64", "x86_64-linux-musl"),
}
TARGETS = {**LINUX, **ANDROID}


def has_zig() -> bool:
    return importlib.util.find_spec("ziglang") is not None


def zig_folder(target: Target) -> Path:
    """Where ziglang is installed. Raises: BuildError."""
    if not has_zig():
        other = f", or set {NDK_VARIABLE} to the folder of Android's NDK" if target.android_abi else ""
        raise BuildError(f"ziglang: it must be installed to build for another machine. Received: no such package. Run `pip install ziglang`{other}.")
    return Path(importlib.util.find_spec("ziglang").origin).parent


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
    toolchain = toolchain_options(folder / "toolchain", target) if target else []
    _run([cmake, *generator, "-S", str(SOURCES), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *toolchain, *options], quiet)
    _run([cmake, "--build", str(folder), "--target", goal, "--parallel"], quiet)
    return folder


def build_library(output: Path, target: Target) -> Path:
    """Builds the library for another machine as `output`/libtflite_smart_delegate.so and returns that path. Raises: BuildError. OSError: there is no place for it."""
    if output.exists() and not output.is_dir():  # said now, not after minutes of building
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(output))
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


def toolchain_options(folder: Path, target: Target) -> list[str]:
    """The cmake options that select a compiler for the target. Raises: BuildError: there is none."""
    if not target.android_abi:
        return zig_toolchain(folder, target, ["-target", target.triple])
    if ndk := os.environ.get(NDK_VARIABLE):
        return ndk_toolchain(Path(ndk), target)
    return zig_android_toolchain(folder, target)


def zig_toolchain(folder: Path, target: Target, flags: list[str]) -> list[str]:
    """Writes `c++`, `cc`, `ar` and `ranlib` scripts around ziglang and returns the cmake options that select them.

    cmake wants one executable per tool. The target is always named, even for this machine: zig's default is the CPU it runs on.
    Raises: BuildError: ziglang is not installed.
    """
    zig_folder(target)
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in {"c++": ["c++", *flags], "cc": ["cc", *flags], "ar": ["ar"], "ranlib": ["ranlib"]}.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-m", "ziglang", *arguments])} "$@"\n')
        script.chmod(0o755)
    return [f"-DCMAKE_CXX_COMPILER={folder / 'c++'}", f"-DCMAKE_AR={folder / 'ar'}", f"-DCMAKE_RANLIB={folder / 'ranlib'}",
            "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={target.processor}"]


def ndk_toolchain(ndk: Path, target: Target) -> list[str]:
    """The cmake options that select a compiler of Android's NDK. Raises: BuildError: it is not there."""
    file = ndk / "build" / "cmake" / "android.toolchain.cmake"
    if not file.is_file():
        raise BuildError(f"{NDK_VARIABLE}: it must name the folder of Android's NDK. Received: {ndk}, where {file.relative_to(ndk)} is missing. "
                         "Correct it, or unset it: then ziglang builds the library.")
    return [f"-DCMAKE_TOOLCHAIN_FILE={file}", f"-DANDROID_ABI={target.android_abi}", f"-DANDROID_PLATFORM=android-{ANDROID_API}",
            "-DANDROID_STL=c++_static"]


def zig_android_toolchain(folder: Path, target: Target) -> list[str]:
    """The cmake options for Android without its NDK, see above. Raises: BuildError."""
    if not target.musl:
        raise BuildError(f"{NDK_VARIABLE}: it must name the folder of Android's NDK to build for {target.android_abi}. Received: nothing. "
                         "Without it ziglang builds for 64-bit processors only.")
    headers = zig_folder(target) / "lib" / "libc" / "include"
    processor = target.musl.split("-")[0]
    kernel = processor.replace("x86_64", "x86")
    paths = [headers / name for name in (f"{processor}-linux-musl", "generic-musl", f"{kernel}-linux-any", "any-linux-any")]
    # libc++ wants to know whose tables of letters these are; the library has no use for letters. Destructors of static objects (mutexes) would be
    # run by the NDK's start files.
    flags = ["-target", target.triple, "-D_LIBCPP_PROVIDES_DEFAULT_RUNE_TABLE", "-fno-c++-static-destructors", *[f"-isystem{path}" for path in paths]]
    options = zig_toolchain(folder, target, flags)
    # zig compiles for Android but won't link for it: to a linker there is no difference.
    link = ["-target", target.musl, "-nostdlib", "-lgcc"]
    libraries = make_bionic(folder, link)
    # Checks of the compiler can't link a program: there is no C library for one.
    return [*options, "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY", f"-DCMAKE_SHARED_LINKER_FLAGS={shlex.join([*link, *map(str, libraries)])}"]


def bionic_symbols() -> dict[str, tuple[str, int]]:
    """What the library may use of Android's: name -> (library, first API level)."""
    rows = (line.split() for line in BIONIC_SYMBOLS.read_text().splitlines() if line and not line.startswith("#"))
    return {name: (library, int(level)) for library, name, level in rows}


def make_bionic(folder: Path, link: list[str]) -> list[Path]:
    """Writes libc.so, libdl.so and libm.so with the names of bionic_symbols() and nothing behind them, for the linker to see; returns their paths.

    Args: folder: has the script `cc` of zig_toolchain(). link: its flags to link.
    """
    symbols = bionic_symbols()
    libraries = [folder / f"{name}.so" for name in sorted({library for library, _ in symbols.values()})]
    for library in libraries:
        source = library.with_suffix(".c")
        source.write_text("".join(f"int {name};\n" for name, (where, _) in symbols.items() if where == library.stem))
        _run([str(folder / "cc"), "-shared", "-w", "-fno-builtin", f"-Wl,-soname,{library.name}", str(source), "-o", str(library), *link], True)
    return libraries


def _run(command: list[str], quiet: bool) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None, text=True, errors="replace")
    if done.returncode != 0:
        # Of a quiet build's pages of output the one line that says why.
        lines = [line for line in (done.stdout or "").splitlines() if line.strip()]
        reason = next((line for line in lines if "error:" in line.lower()), lines[-1] if lines else "see above")
        raise BuildError(f"{Path(command[0]).name}: it must succeed. Received: exit code {done.returncode} from `{shlex.join(command)}`: {reason}")
