"""Which lines of the parsers and decoders the fuzz targets and the tests reach: prints a table of files, and the total.

    python delegates/fuzz/coverage.py [--seconds 5] [--list]

Builds with g++ --coverage in build/coverage, replays the seeds and the corpus that `make fuzz` has grown, changes them at random for a while, runs the tests of the delegate on the library,
and asks gcov. --list names the lines that nothing reached.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "coverage"
sys.path.insert(0, str(ROOT))

from delegates.fuzz import seeds
from delegates.fuzz.run import BUILD as FUZZ_BUILD, PROGRAMS

PARSED = ("core/packed.cc", "core/tile_decoder.cc", "core/alias_tables.cc", "core/crc32.cc", "core/coding.h", "core/packed.h", "doors/flexbuffer_reader.cc", "doors/op.cc",
          "doors/multiply_ops.cc", "doors/table_ops.cc", "doors/int8_quantization.cc", "doors/neighbours.cc", "doors/segment.cc", "doors/memory_plan.cc", "doors/glue_ops.cc",
          "doors/glue_arithmetic.h", "doors/glue_matmul.h", "doors/glue_moves.h", "kernels/glue.cc", "kernels/matmul.cc", "kernels/decode_scalar.cc", "kernels/decode_avx2.cc", "kernels/decode_avx512.cc",
          "kernels/decode_x86-inl.h", "kernels/panel_reader.cc", "kernels/expand.cc", "kernels/gather.cc")  # fmt: skip
TESTS = ("test_rules.py", "test_hostile_bytes.py", "test_codecs.py", "test_delegate.py", "test_int8.py", "test_smartdeal.py", "test_neighbours.py", "test_glue.py",
         "test_tampering.py", "test_float_paths.py", "test_kept_ids.py", "test_doors.py")


def run(*command, **options) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, **options)


def build() -> None:
    tool = shutil.which("cmake") or Path(sys.executable).with_name("cmake")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run(tool, "-S", ROOT / "delegates", "-B", BUILD, *generator, "-DTFS_COVERAGE=ON", "-DTFS_BUILD_FUZZERS=ON", "-DCMAKE_CXX_COMPILER=g++", "-DCMAKE_BUILD_TYPE=Debug")
    run(tool, "--build", BUILD, "--parallel", "2")


def exercise(seconds: int) -> None:
    seeds.write(BUILD / "corpus")
    for target in PROGRAMS:
        folders = [folder / "corpus" / target for folder in (BUILD, FUZZ_BUILD) if (folder / "corpus" / target).is_dir()]
        run(BUILD / f"fuzz_{target}", f"-max_total_time={seconds}", *folders)
    environment = {**os.environ, "TFLITE_SMART_LIBRARY": str(BUILD / "libtflite_smart_delegate.so")}
    tests = [path for name in TESTS if (path := ROOT / "tests" / "delegates" / name).exists()]
    subprocess.run([sys.executable, "-m", "pytest", "-q", *map(str, tests)], env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)


def count_lines() -> dict[str, dict[int, bool]]:
    """For every file of PARSED: line number to whether it ran, over all objects that contain it."""
    found = {name: {} for name in PARSED}
    objects = [str(path) for path in (BUILD / "CMakeFiles" / "tfs_objects.dir").rglob("*.gcda")]
    text = subprocess.run(["gcov", "--stdout", *objects], capture_output=True, text=True, errors="replace", cwd=BUILD).stdout
    lines = None
    for row in text.splitlines():
        if match := re.match(r"\s*-:\s+0:Source:(.*)", row):
            lines = next((found[name] for name in PARSED if match[1].endswith(f"delegates/{name}")), None)
        elif lines is not None and (match := re.match(r"\s*([\d#=]+)\*?:\s*(\d+):", row)):
            lines[int(match[2])] = lines.get(int(match[2]), False) or match[1][0] not in "#="
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="for each fuzz target")
    parser.add_argument("--list", action="store_true", help="name the lines that nothing reached")
    arguments = parser.parse_args()
    build()
    exercise(arguments.seconds)
    reached = total = 0
    for name, lines in count_lines().items():
        if not lines:
            continue
        reached, total = reached + sum(lines.values()), total + len(lines)
        missing = [number for number, ran in sorted(lines.items()) if not ran]
        print(f"{name:32}{sum(lines.values()):6} of {len(lines):5} lines  {sum(lines.values()) / len(lines):6.1%}  {missing if arguments.list else ''}")
    print(f"{'all':32}{reached:6} of {total:5} lines  {reached / total:6.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
