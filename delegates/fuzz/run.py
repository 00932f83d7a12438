"""Builds the fuzz targets with address and undefined-behaviour sanitizers, runs each for a while, and prints what was tried and what was found.

    make fuzz SECONDS=60                                          every target, a minute each
    python delegates/fuzz/run.py --seconds 1800 --targets tile    one target
    python delegates/fuzz/run.py --compiler g++                   without libFuzzer: random changes of the seeds, no feedback from coverage

A compiler with libFuzzer is looked for (clang++, clang++-19 ... clang++-14); where there is none, g++ and fuzz/standalone.cc do what they can, and the program says
what to install. The corpus grows in build/fuzz/corpus from run to run; an input that breaks a promise is kept in build/fuzz/findings. Exit code 1 if there is one.
"""

import argparse
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

TARGETS = ("header", "tile", "options", "layer")
COMPILERS = ("clang++", *(f"clang++-{version}" for version in range(21, 13, -1)))
INSTALL = "apt-get install clang libclang-rt-14-dev"
MAX_INPUT_BYTES = {"header": 4096, "tile": 1024, "options": 512, "layer": 512}
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


def build(compiler: str, targets: list[str]) -> Path:
    """The folder with the programs. Every compiler has its own, as CMake does not change it later."""
    folder = BUILD / Path(compiler).name
    options = ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DTFS_SANITIZE=address,undefined", "-DTFS_BUILD_FUZZERS=ON", f"-DCMAKE_CXX_COMPILER={compiler}"]
    tool = shutil.which("cmake") or str(Path(sys.executable).with_name("cmake"))
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    subprocess.run([tool, "-S", str(ROOT / "delegates"), "-B", str(folder), *generator, *options], check=True, stdout=subprocess.DEVNULL)
    names = [f"fuzz_{target}" for target in targets]
    subprocess.run([tool, "--build", str(folder), "--parallel", "2", "--target", *names], check=True, stdout=subprocess.DEVNULL)
    return folder


def run_target(program: Path, target: str, seconds: int, seed: int) -> tuple[int, int, int, str]:
    """Executions, seconds, inputs in the corpus, and what was found ('' for nothing)."""
    corpus, findings = BUILD / "corpus" / target, BUILD / "findings" / target
    findings.mkdir(parents=True, exist_ok=True)
    command = [str(program), f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES[target]}", "-timeout=20", "-rss_limit_mb=2048", f"-seed={seed}",
               f"-artifact_prefix={findings}/", str(corpus)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=_ENVIRONMENT)
    output = done.stdout + done.stderr
    runs = re.findall(r"Done (\d+) runs in (\d+) second", output)
    executions, lasted = map(int, runs[-1]) if runs else (0, 0)
    found = ""
    if done.returncode != 0:
        line = re.search(r"promise broken.*|runtime error.*|SUMMARY.*|ERROR: .*", output)
        found = line[0] if line else f"exit code {done.returncode}"
    return executions, lasted, len(list(corpus.iterdir())), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--compiler", help="default: the first that has libFuzzer, else g++")
    parser.add_argument("--seed", type=int, default=2101)
    arguments = parser.parse_args()

    from delegates.fuzz import seeds

    compiler = arguments.compiler or find_compiler()
    if not shutil.which(compiler):
        print(f"SKIPPED: fuzzing needs a C++ compiler. {INSTALL}")
        return 0
    feedback = has_libfuzzer(compiler)
    print(f"{compiler}, {'libFuzzer' if feedback else f'no libFuzzer: random changes only. For feedback from coverage: {INSTALL}'}")
    folder = build(compiler, arguments.targets)
    seeds.write(BUILD / "corpus")
    print(f"{'target':9}{'executions':>13}{'seconds':>9}{'corpus':>8}  found")
    failed = False
    for target in arguments.targets:
        executions, lasted, inputs, found = run_target(folder / f"fuzz_{target}", target, arguments.seconds, arguments.seed)
        failed |= bool(found)
        print(f"{target:9}{executions:13,}{lasted:9}{inputs:8}  {found or 'nothing'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
