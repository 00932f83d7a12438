"""`make test-arm64`: the delegate on an emulated 64-bit Arm, with the real LiteRT wheel for it.

What is built: the wheel for linux-aarch64, as `make wheels` does, and the C++ self test for aarch64 and 32-bit armv7. What runs, in QEMU's user mode: the self
tests; the delegate's own tests; models whose outputs must equal this machine's (cases.py); on a Cortex-A72, which has no dot product instructions,
and a Cortex-A76, which has. Emulation shows what is right, never what is fast.

Everything downloaded and built stays in .cache/ and build/ of the checkout. Where packages can't be fetched or a private mount is not allowed,
it says why and ends well. Needs the environment that the Makefile makes.
"""

from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.arm64 import sysroot  # noqa: E402
from tests.arm64.conftest import CASES_VARIABLE, PYTHON_VARIABLE, WHEELS_VARIABLE  # noqa: E402
from tests.conftest import MODELS  # noqa: E402
from tflite_smart.delegates import cross_build  # noqa: E402

CACHE = ROOT / ".cache" / "arm64"
PYTHON_WHEELS = ["ai-edge-litert", "numpy", "flatbuffers", "absl-py", "rich", "pytest"]
TIMEOUT_S = 900
LOG_CHARACTERS = 8000  # the end of what a failing command printed

# LiteRT asks which processors there are; the host's cache files make it crash, and without any list XNNPACK stays off.
FAKE_PROCESSORS = "mount -t tmpfs none /sys/devices/system/cpu && echo 0-1 | tee /sys/devices/system/cpu/possible /sys/devices/system/cpu/present >/dev/null"

# The scalar kernels are what the host's tests run too, at ten times the speed. Named tests take a minute here.
KERNEL_TESTS = "not scalar and not huge_filter and not tensorflow and not long_"
SLOW_TESTS = "not test_damaged_options_never_crash and not tensorflow"
# They need compilers, hypothesis, TensorFlow or processes of their own.
ON_THE_HOST_ONLY = {"test_android", "test_cancellation", "test_cross_build", "test_doors", "test_hostile_bytes", "test_one_process", "test_samples_cpp", "test_tampering", "test_thread_pool"}


class Result:
    """Counts what was run."""

    def __init__(self):
        self.passed = self.failed = 0
        self.digests = set()

    def add(self, what: str, done: subprocess.CompletedProcess, seconds: float) -> None:
        tail = done.stdout.strip().splitlines()[-1:] or [""]
        counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|errors?)", tail[0])}
        failed = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
        if done.returncode != 0 or not counts.get("passed"):
            print(done.stdout[-LOG_CHARACTERS:], flush=True)
            failed = max(failed, 1)
        self.passed += counts.get("passed", 0)
        self.failed += failed
        self.digests.update(re.findall(r"^digest (\w+)$", done.stdout, re.MULTILINE))
        print(f"{what}: {counts.get('passed', 0)} passed, {failed} failed in {seconds:.0f} s", flush=True)


def main() -> int:
    start = time.monotonic()
    result = Result()
    try:
        sysroot.check_host()
        prepared = prepare()
    except sysroot.Unavailable as reason:
        print(f"test-arm64: skipped: {reason}\n0 passed, 0 failed, 1 skipped")
        return 0
    with ThreadPoolExecutor(2) as lanes:
        for lane in [lanes.submit(work, prepared, result) for work in (first_lane, second_lane)]:
            lane.result()
    if len(result.digests) > 1:
        print(f"the self tests encoded or decoded different bytes: digests {sorted(result.digests)}")
        result.failed += 1
    print(f"{result.passed} passed, {result.failed} failed in {time.monotonic() - start:.0f} s")
    return 1 if result.failed else 0


def prepare() -> dict:
    """Downloads, builds and computes what the emulated machine needs, side by side. Raises: Unavailable, BuildError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(3) as pool:
        # First what may not be possible here: building takes the longest.
        arm = sysroot.Debian(CACHE / "debian", "arm64")
        qemu = {name: sysroot.find_qemu(name, CACHE) for name in ("qemu-aarch64", "qemu-arm")}
        version = arm.python_version()
        arm.install([*sysroot.LIBRARIES, f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib"])
        armv7_root = sysroot.armv7_root(CACHE)
        site = CACHE / "site"
        if not (site / "done").exists():
            sysroot.install_wheels(site, version, PYTHON_WHEELS)
            (site / "done").touch()
        cases = pool.submit(make_cases)
        armv7 = pool.submit(cross_build.build, ROOT / "build" / "zig-linux-armv7", target=cross_build.TARGETS["linux-armv7"],
                            options=("-DTFS_BUILD_SELF_TEST=ON",), goal="self_test", quiet=True)
        wheel = build_wheel("linux-aarch64", CACHE / "dist")
        aarch64 = cross_build.build(ROOT / "build" / "zig-linux-aarch64", target=cross_build.TARGETS["linux-aarch64"],
                                    options=("-DTFS_BUILD_SELF_TEST=ON",), goal="self_test", quiet=True)
        # Installed as on a Raspberry Pi: by pip, which looks at the tag, without a compiler.
        package = CACHE / "package"
        shutil.rmtree(package, ignore_errors=True)
        sysroot.install_wheels(package, version, ["--no-deps", str(wheel)])
        copy_tests(CACHE / "checkout")
        python = write_python(qemu["qemu-aarch64"], arm.root, version, [CACHE / "checkout", package, site])
        cases.result()
        return {"python": python, "qemu": qemu, "roots": {"aarch64": arm.root, "armv7": armv7_root}, "wheels": wheel.parent,
                "self_tests": {"aarch64": aarch64 / "self_test", "armv7": armv7.result() / "self_test"}}


def build_wheel(target: str, folder: Path) -> Path:
    """Builds the wheel of another machine into an empty folder and returns its path. Raises: BuildError."""
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
                          env={**os.environ, "TFLITE_SMART_TARGET": target}, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        log = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise cross_build.BuildError(f"pip wheel: it must make one wheel for {target}. Received: {log}")
    return wheels[0]


def make_cases() -> None:
    from tests.arm64.cases import make_cases as make

    shutil.rmtree(CACHE / "cases", ignore_errors=True)
    make(CACHE / "cases", MODELS)


def copy_tests(folder: Path) -> None:
    """The tests, and the sample that they run, away from the checkout, whose folder `tflite_smart` would be imported in place of the installed package."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("tests", "samples/raspberry_pi"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text("[pytest]\n")  # or pytest takes the checkout's settings, two folders up


def write_python(qemu: str, root: Path, version: str, path: list[Path]) -> Path:
    """A script that is the emulated Python to whoever calls it, its own child processes too."""
    script = CACHE / "python"
    variables = {"QEMU_LD_PREFIX": root, "PYTHONHOME": root / "usr", "PYTHONPATH": ":".join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    exports = "".join(f"export {name}={shlex.quote(str(value))}\n" for name, value in variables.items())
    script.write_text(f'#!/bin/sh\n{exports}exec {shlex.quote(qemu)} {shlex.quote(str(root / f"usr/bin/python{version}"))} "$@"\n')
    script.chmod(0o755)
    return script


def first_lane(prepared: dict, result: Result) -> None:
    for machine, emulator, cpu in [("aarch64", "qemu-aarch64", "cortex-a72"), ("armv7", "qemu-arm", "cortex-a15")]:
        run(result, f"C++ self test, {machine}", [prepared["qemu"][emulator], str(prepared["self_tests"][machine])], cpu,
            QEMU_LD_PREFIX=str(prepared["roots"][machine]))
    run(result, "wheel", [sys.executable, "-m", "pytest", "-q", "tests/arm64/test_wheels.py"], "", **{WHEELS_VARIABLE: str(prepared["wheels"])})
    pytest(prepared, result, "cortex-a72",
           ["tests/arm64", "tests/delegates/test_codecs.py", "tests/delegates/test_delegate.py", "tests/samples/test_raspberry_pi.py"], SLOW_TESTS, every=2)
    integer_kernels(prepared, result, "cortex-a72", every=40)


def second_lane(prepared: dict, result: Result) -> None:
    # Kernels with dot products; what other tests of the delegate there are runs here too.
    known = ON_THE_HOST_ONLY | {"test_codecs", "test_delegate", "test_int8", "test_dynamic_int8"}
    others = [f"tests/delegates/{p.name}" for p in sorted((ROOT / "tests" / "delegates").glob("test_*.py")) if p.stem not in known]
    pytest(prepared, result, "cortex-a76", ["tests/arm64", *others], KERNEL_TESTS, every=4)
    integer_kernels(prepared, result, "cortex-a76", every=24)


def integer_kernels(prepared: dict, result: Result, cpu: str, every: int) -> None:
    # Their reference is numpy, which is slow here: a few of each test.
    pytest(prepared, result, cpu, ["tests/delegates/test_int8.py", "tests/delegates/test_dynamic_int8.py"], KERNEL_TESTS, every)


def pytest(prepared: dict, result: Result, cpu: str, files: list[str], keywords: str, every: int) -> None:
    script = f'{FAKE_PROCESSORS} && exec "$@"'
    command = [*sysroot.UNSHARE, "sh", "-c", script, "sh", str(prepared["python"]), "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider",
               "-p", "tests.arm64.sampling", "--every", str(every), "--import-mode=importlib", "-k", keywords, *files]
    run(result, f"Python tests, {cpu}", command, cpu, folder=CACHE / "checkout",
        **{CASES_VARIABLE: str(CACHE / "cases"), PYTHON_VARIABLE: str(prepared["python"])})


def run(result: Result, what: str, command: list[str], cpu: str, folder: Path = ROOT, **variables: str) -> None:
    start = time.monotonic()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "QEMU"))}
    done = subprocess.run(command, cwd=folder, env={**environment, "QEMU_CPU": cpu, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, errors="replace", timeout=TIMEOUT_S)
    result.add(what, done, time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
