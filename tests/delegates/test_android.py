"""The Android package without a phone: its Java side on this machine's JVM, and the library that is built for Android as a file."""

import json
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import sys

from elftools.elf.elffile import ELFFile
import numpy as np
import pytest

from tests.arm64 import sysroot
from tests.delegates import models
from tests.delegates.running import run
from tflite_smart import cli
from tflite_smart.delegates import cross_build, native

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ANDROID = ROOT / "delegates" / "android"
# `make android` builds libraries, one folder each, and names the folder of folders here.
LIBRARIES = sorted(Path(os.environ.get("TFLITE_SMART_ANDROID", "nowhere")).glob(f"*/{cross_build.LIBRARY_NAME}"))
PAGE_BYTES = 16384
MACHINES = {"arm64-v8a": "EM_AARCH64", "armeabi-v7a": "EM_ARM", "x86_64": "EM_X86_64"}
# ABI: the processor's name in Linux, in Debian, and instruction sets that must be found.
PROBES = {"arm64-v8a": ("aarch64", "arm64", ["scalar", "neon", "neondot"]), "x86_64": ("x86_64", "amd64", ["scalar"])}


@pytest.fixture(scope="module")
def java(tmp_path_factory) -> tuple[Path, Path]:
    """The folders of SmartDelegate's classes and of its native library, built with the JDK of this machine."""
    pytest.importorskip("jpype", reason="JPype1 starts the JVM")
    compiler, javac = shutil.which("c++"), shutil.which("javac")
    if not compiler or not javac:
        pytest.skip("no C++ compiler or no JDK")
    headers = Path(javac).resolve().parents[1] / "include"
    classes, libraries = tmp_path_factory.mktemp("classes"), tmp_path_factory.mktemp("libraries")
    sources = [*(ANDROID / "src" / "main" / "java").rglob("*.java"), *(HERE / "java").rglob("*.java")]
    subprocess.run([javac, "-Xlint:all", "-Werror", "--release", "8", "-Xlint:-options", "-d", classes, *sources], check=True)
    subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{headers}", f"-I{headers / 'linux'}",
                    f"-I{cross_build.SOURCES / 'include'}", ANDROID / "src" / "main" / "cpp" / "smart_delegate_jni.cc", native.library_path(),
                    f"-Wl,-rpath,{Path(native.library_path()).parent}", "-Wl,--no-undefined", "-o", libraries / "libtflite_smart_jni.so"], check=True)
    return classes, libraries


def test_a_delegate_made_in_java_serves_an_interpreter(java, rng, tmp_path):
    content = models.conv_model((1, 9, 11, 5), models.random_weight(rng, (70, 3, 3, 5), 0), (3, 3, 5))
    x = rng.normal(size=(1, 9, 11, 5)).astype(np.float32)
    (tmp_path / "m.tflite").write_bytes(content)
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run([sys.executable, HERE / "jvm_child.py", *java, tmp_path / "m.tflite", tmp_path / "x.npy", tmp_path / "y.npy"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING in native method" not in done.stdout and "FATAL" not in done.stdout  # what -Xcheck:jni has to say
    for y in np.load(tmp_path / "y.npy"):
        np.testing.assert_array_equal(y, run(content, x))
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["version"] == native.version() and said["is_delegate"]
    assert said["closed"].startswith("java.lang.IllegalStateException: SmartDelegate: it must be open.")
    assert said["range"].startswith("java.lang.IllegalArgumentException: TFLite Smart delegate: options must be num_threads (1..256)")
    assert said["range"].endswith("Received: num_threads=0.")
    assert said["unknown"].endswith("Received: gr????e=1.")
    assert "at most 63 bytes" in said["long"] and "at most 63 bytes" in said["null"] and "at most 16 options" in said["many"]


def test_one_android_everywhere():
    """The API level, the processors and the native names are written in several places."""
    gradle = (ANDROID / "build.gradle.kts").read_text()
    assert int(re.search(r"minSdk = (\d+)", gradle)[1]) == cross_build.ANDROID_API
    assert re.findall(r'"([^"]+)"', re.search(r"abiFilters \+= listOf\((.*)\)", gradle)[1]) == [t.android_abi for t in cross_build.ANDROID.values()]
    assert max(level for _, level in cross_build.bionic_symbols().values()) <= cross_build.ANDROID_API
    source = (ANDROID / "src" / "main" / "java" / "org" / "tflitesmart" / "SmartDelegate.java").read_text()
    implemented = re.findall(r"Java_org_tflitesmart_SmartDelegate_(\w+)", (ANDROID / "src" / "main" / "cpp" / "smart_delegate_jni.cc").read_text())
    assert sorted(re.findall(r"static native \w+ (\w+)\(", source)) == sorted(implemented)


def test_an_ndk_that_is_there_is_used(monkeypatch, tmp_path):
    toolchain = tmp_path / "build" / "cmake" / "android.toolchain.cmake"
    toolchain.parent.mkdir(parents=True)
    toolchain.touch()
    monkeypatch.setenv(cross_build.NDK_VARIABLE, str(tmp_path))
    assert cross_build.toolchain_options(tmp_path, cross_build.ANDROID["android-armv7"]) == [
        f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DANDROID_ABI=armeabi-v7a", "-DANDROID_PLATFORM=android-23", "-DANDROID_STL=c++_static"]


def test_an_ndk_that_is_not_there_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(cross_build.NDK_VARIABLE, str(tmp_path))
    assert cli.main(["delegate", "--target", "android-arm64", "-o", str(tmp_path / "out")]) == 2
    assert f"ANDROID_NDK_HOME: it must name the folder of Android's NDK. Received: {tmp_path}" in capsys.readouterr().err


def test_without_ndk_and_ziglang_both_are_named(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(cross_build.NDK_VARIABLE, raising=False)
    monkeypatch.setattr(cross_build, "has_zig", lambda: False)
    assert cli.main(["delegate", "--target", "android-arm64", "-o", str(tmp_path / "out")]) == 2
    assert "Run `pip install ziglang`, or set ANDROID_NDK_HOME" in capsys.readouterr().err


def test_32_bit_needs_the_ndk(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(cross_build.NDK_VARIABLE, raising=False)
    assert cli.main(["delegate", "--target", "android-armv7", "-o", str(tmp_path / "out")]) == 2
    assert "ANDROID_NDK_HOME: it must name the folder of Android's NDK to build for armeabi-v7a" in capsys.readouterr().err


def test_the_library_of_this_machine_asks_for_no_more_than_androids():
    """The same sources, so what Android lacks is seen without a build for it."""
    with open(native.library_path(), "rb") as file:
        asked = undefined(ELFFile(file))
    start_files = {"__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
    assert "malloc" in asked and asked - start_files <= set(cross_build.bionic_symbols())


@pytest.mark.skipif(not cross_build.has_zig(), reason="ziglang is not installed")
def test_what_is_not_on_the_list_stops_the_build(monkeypatch, tmp_path):
    monkeypatch.delenv(cross_build.NDK_VARIABLE, raising=False)
    options = cross_build.toolchain_options(tmp_path, cross_build.ANDROID["android-arm64"])
    link = next(option for option in options if "LINKER_FLAGS" in option).partition("=")[2].split()
    source = tmp_path / "x.cc"
    for body, good in [("free(malloc(8))", True), ("free((void*)(long)atoi(\"1\"))", False)]:
        source.write_text(f"#include <stdlib.h>\nextern \"C\" void f() {{ {body}; }}")
        done = subprocess.run([tmp_path / "c++", "-fPIC", "-shared", "-fno-builtin", source, *link, "-Wl,--no-undefined", "-o", tmp_path / "x.so"],
                              capture_output=True, text=True)
        assert (done.returncode == 0) == good, done.stderr
    assert "undefined symbol: atoi" in done.stderr


@pytest.mark.skipif(not LIBRARIES, reason="`make android` builds the libraries")
class TestLibraries:
    @pytest.fixture(params=LIBRARIES, ids=lambda path: path.parent.name)
    def elf(self, request):
        with open(request.param, "rb") as file:
            yield ELFFile(file)

    def test_machine(self, elf, request):
        abi = request.node.callspec.params["elf"].parent.name
        assert elf["e_machine"] == MACHINES[abi]

    def test_asks_only_for_what_every_android_has(self, elf):
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        assert needed <= {"libc.so", "libm.so", "libdl.so"}
        asked = undefined(elf)
        assert "malloc" in asked and asked <= set(cross_build.bionic_symbols())

    def test_exports_only_its_own_names(self, elf):
        exported = [s.name for s in elf.get_section_by_name(".dynsym").iter_symbols() if s["st_shndx"] != "SHN_UNDEF"]
        assert "tflite_plugin_create_delegate" in exported and [n for n in exported if not n.startswith(("tfs_", "tflite_plugin_"))] == []

    def test_segments_lie_on_pages_of_16_kb(self, elf):
        loads = list(elf.iter_segments("PT_LOAD"))
        assert loads and all(load["p_align"] >= PAGE_BYTES and (load["p_vaddr"] - load["p_offset"]) % PAGE_BYTES == 0 for load in loads)

    def test_needs_no_relocation_of_code(self, elf):
        """Android refuses to load a library whose text would have to be written to."""
        tags = {tag.entry.d_tag for tag in elf.get_section_by_name(".dynamic").iter_tags()}
        assert "DT_TEXTREL" not in tags and tags & {"DT_HASH", "DT_GNU_HASH"}

    @pytest.mark.skipif(not cross_build.has_zig(), reason="ziglang is not installed")
    @pytest.mark.parametrize("library", [path for path in LIBRARIES if path.parent.name in PROBES], ids=lambda path: path.parent.name)
    @pytest.mark.parametrize("codec", ["rans", "bitpack"])
    def test_works_with_musl_in_place_of_bionic(self, library, codec, rng, tmp_path):
        """No phone, but the very file that goes there: loaded, a delegate made, and a weight decoded with the processor's best instructions."""
        machine, architecture, isas = PROBES[library.parent.name]
        cache = ROOT / ".cache" / "arm64"
        try:
            root = sysroot.Debian(cache / f"musl-{architecture}", architecture).install(["musl", "musl-dev"])
            runner = [] if machine == platform.machine() else [sysroot.find_qemu(f"qemu-{machine}", cache)]
        except sysroot.Unavailable as reason:
            pytest.skip(str(reason))
        probe, loader = tmp_path / "probe", next(root.glob(f"**/{machine}-linux-musl/libc.so"))
        build_probe(probe, machine, root, loader)
        weight = models.random_weight(rng, (70, 3, 3, 5), 0, codec=codec).to_bytes()
        (tmp_path / "w").write_bytes(weight)
        expected = native.expand(weight, (70, 3, 3, 5))
        done = subprocess.run([*runner, loader, probe, library, tmp_path / "w", tmp_path / "out", str(expected.nbytes)],
                              env={**os.environ, "QEMU_CPU": "cortex-a76"}, capture_output=True, text=True)
        assert done.returncode == 0, (done.returncode, done.stderr)
        assert set(isas) <= set(done.stdout.split())
        np.testing.assert_array_equal(np.fromfile(tmp_path / "out", np.float32).reshape(expected.shape), expected)


def undefined(elf: ELFFile) -> set[str]:
    """The functions that a shared library asks for."""
    return {s.name for s in elf.get_section_by_name(".dynsym").iter_symbols() if s["st_shndx"] == "SHN_UNDEF" and s.name}


def build_probe(path: Path, machine: str, root: Path, libc: Path) -> None:
    """Compiles android_probe.c for musl, with Debian's files of it: zig would first build all of its own."""
    zig, libraries = [sys.executable, "-m", "ziglang"], root / "usr" / "lib" / f"{machine}-linux-musl"
    headers = [root / "usr" / "include" / f"{machine}-linux-musl", cross_build.zig_folder(cross_build.TARGETS["android-arm64"]) / "lib" / "include"]
    subprocess.run([*zig, "clang", f"--target={machine}-linux-musl", "-O1", "-fPIC", "-nostdlibinc", *[f"-isystem{path}" for path in headers],
                    f"-I{cross_build.SOURCES / 'include'}", "-c", HERE / "android_probe.c", "-o", f"{path}.o"], check=True)
    subprocess.run([*zig, "ld.lld", "-o", path, "-dynamic-linker", f"/lib/ld-musl-{machine}.so.1", libraries / "crt1.o", libraries / "crti.o", f"{path}.o",
                    libc, libraries / "crtn.o"], check=True)
