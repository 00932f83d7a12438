"""Builds the fuzz targets with address and undefined-behaviour sanitizers, runs each for a while, and prints what was tried and what was found.

    make fuzz SECONDS=60                                          every target, a minute each
    python delegates/fuzz/run.py --seconds 1800 --targets tile    one target
    python delegates/fuzz/run.py --compiler g++                   without libFuzzer: random changes of the seeds, no feedback from coverage

A compiler with libFuzzer is looked for (clang++, clang++-19 ... clang++-14); where there is none, g++ and fuzz/standalone.cc do what they can, and the program says
what to install. The corpus grows in build/fuzz/corpus from run to run; an input that breaks a promise is kept in build/fuzz/findings. Exit code 1 if there is one.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
sys.path.insert(0, str(ROOT))

PROGRAMS = ("header", "tile", "options", "layer", "segment")
INTERPRETER = "interpreter"  # delegates/fuzz/interpreter.py: the library under LiteRT in Python
PYTHON_READER = "python_reader"  # delegates/fuzz/python_reader.py, with atheris
TARGETS = (*PROGRAMS, INTERPRETER, PYTHON_READER)
COMPILERS = ("clang++", *(f"clang++-{version}" for version in range(21, 13, -1)))
INSTALL = "apt-get install clang libclang-rt-14-dev"
MAX_INPUT_BYTES = {"header": 4096, "tile": 1024, "options": 512, "layer": 512, "segment": 512, PYTHON_READER: 2048}
_ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1"}


def has_libfuzzer(compiler: str) -> bool:
    """Whether it links a target; Debian packs the library apart from the compiler."""
    source = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, "-x", "c++", "-fsanitize=fuzzer,address", "-", "-o", f"{folder}/target"]
        return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0


def find_compiler() -> str:
    """One with libFuzzer, else g++."""
    for compiler in COMPILERS:
        if shutil.which(compiler) and has_libfuzzer(compiler):
            return compiler
    return "g++"


def build(compiler: str, names: list[str]) -> Path:
    """The folder with what was built. Every compiler has its own, as CMake does not change it later."""
    folder = BUILD / Path(compiler).name
    options = ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -gline-tables-only" if "clang" in compiler else "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1",
               "-DTFS_SANITIZE=address,undefined", "-DTFS_BUILD_FUZZERS=ON", f"-DCMAKE_CXX_COMPILER={compiler}"]
    tool = shutil.which("cmake") or str(Path(sys.executable).with_name("cmake"))
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    subprocess.run([tool, "-S", str(ROOT / "delegates"), "-B", str(folder), *generator, *options], check=True, stdout=subprocess.DEVNULL)
    built = subprocess.run([tool, "--build", str(folder), "--parallel", "2", "--target", *names], capture_output=True, text=True)
    if built.returncode != 0:
        sys.exit(built.stdout + built.stderr)
    return folder


def command_of(target: str, program: Path, seconds: int, seed: int) -> list[str]:
    if target == INTERPRETER:
        return [sys.executable, str(Path(__file__).with_name("interpreter.py")), "--seconds", str(seconds), "--seed", str(seed), "--library", str(program)]
    start = [sys.executable, str(program)] if target == PYTHON_READER else [str(program)]
    flags = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES[target]}", f"-seed={seed}", "-timeout=20", "-rss_limit_mb=2048"]
    return [*start, *flags, f"-artifact_prefix={BUILD / 'findings' / target}/", str(BUILD / "corpus" / target)]


def run_target(target: str, program: Path, seconds: int, seed: int) -> tuple[int, int, int, str]:
    """Executions, seconds, inputs in the corpus, and what was found ('' for nothing)."""
    for folder in ("corpus", "findings"):
        (BUILD / folder / target).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command_of(target, program, seconds, seed), capture_output=True, text=True, errors="replace", env=_ENVIRONMENT)
    output = done.stdout + done.stderr
    runs = re.findall(r"Done (\d+) runs in (\d+) second", output)
    executions, lasted = map(int, runs[-1]) if runs else (0, 0)
    found = ""
    if done.returncode != 0:
        line = re.search(r"promise broken.*|AssertionError: .*|runtime error.*|SUMMARY.*|ERROR: .*", output)
        found = line[0] if line else f"exit code {done.returncode}"
    return executions, lasted, len(list((BUILD / "corpus" / target).iterdir())), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--compiler", help="default: the first that has libFuzzer, else g++")
    parser.add_argument("--seed", type=int, default=2101)
    parser.add_argument("--need-libfuzzer", action="store_true", help="skip, with the reason, where no compiler has it")
    arguments = parser.parse_args()

    from delegates.fuzz import seeds

    compiler = arguments.compiler or find_compiler()
    feedback = shutil.which(compiler) is not None and has_libfuzzer(compiler)
    if not feedback and (arguments.need_libfuzzer or not shutil.which(compiler)):
        print(f"SKIPPED: fuzzing needs a compiler with libFuzzer: {INSTALL}")
        return 0
    print(f"{compiler}, {'libFuzzer' if feedback else f'no libFuzzer: random changes only. For feedback from coverage: {INSTALL}'}")
    programs = [target for target in arguments.targets if target in PROGRAMS]
    places = {}
    if programs:
        folder = build(compiler, [f"fuzz_{target}" for target in programs])
        places = {target: folder / f"fuzz_{target}" for target in programs}
    if INTERPRETER in arguments.targets and shutil.which("g++"):  # whose sanitizer a Python can be started with
        places[INTERPRETER] = build("g++", ["tflite_smart_delegate"]) / "libtflite_smart_delegate.so"
    if PYTHON_READER in arguments.targets and importlib.util.find_spec("atheris"):
        places[PYTHON_READER] = Path(__file__).with_name("python_reader.py")
    elif PYTHON_READER in arguments.targets:
        print(f"SKIPPED: {PYTHON_READER} needs atheris: pip install atheris")
    seeds.write(BUILD / "corpus")
    print(f"{'target':14}{'executions':>13}{'seconds':>9}{'corpus':>8}  found")
    failed = False
    for target, place in places.items():
        executions, lasted, inputs, found = run_target(target, place, arguments.seconds, arguments.seed)
        failed |= bool(found)
        print(f"{target:14}{executions:13,}{lasted:9}{inputs:8}  {found or 'nothing'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
