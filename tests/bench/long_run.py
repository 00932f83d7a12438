"""Whether memory grows: many interpreters made and destroyed, many inferences, eight interpreters in eight threads, inputs resized in between, a fork after loading.

    python tests/bench/long_run.py [--cycles 10000 --inferences 1000000 --threads 8 --resizes 1000]

Prints the resident memory before and after each, in KB. "Before" is taken after a tenth of the work, when every pool and cache has its size. Exit code 1 if one grows by more than
GROWTH_KB, or if results differ.
"""

import argparse
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.delegates import models
from tests.delegates.running import make_interpreter

GROWTH_KB = 1024  # loading delegates and never using them costs LiteRT's Python and the allocator some 600 KB in 10,000 cycles
_SHAPE = (1, 6, 6, 8)


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def small_model() -> bytes:
    return models.conv_model(_SHAPE, models.random_weight(np.random.default_rng(1), (40, 3, 3, 8), 0), (3, 3, 8), dynamic=True)


def cycles(content: bytes) -> Callable[[int], None]:
    """An interpreter made, run once and destroyed, each with a pool of threads of its own."""

    def step(count: int) -> None:
        for _ in range(count):
            interpreter = make_interpreter(content, num_threads=2)
            interpreter.invoke()

    return step


def inferences(content: bytes) -> Callable[[int], None]:
    interpreter = make_interpreter(content)

    def step(count: int) -> None:
        for _ in range(count):
            interpreter.invoke()

    return step


def resizes(content: bytes) -> Callable[[int], None]:
    interpreter = make_interpreter(content)
    index = interpreter.get_input_details()[0]["index"]

    def step(count: int) -> None:
        for i in range(count):
            interpreter.resize_tensor_input(index, (1 + i % 3, 4 + i % 5, 6, 8))
            interpreter.allocate_tensors()
            interpreter.invoke()

    return step


def together(content: bytes, threads: int) -> bool:
    """Every thread has an interpreter; all must get what one alone gets."""
    x = np.random.default_rng(2).normal(size=_SHAPE).astype(np.float32)

    def outputs(interpreter, count: int) -> list[bytes]:
        found = []
        for _ in range(count):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
            interpreter.invoke()
            found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tobytes())
        return found

    expected, results = outputs(make_interpreter(content), 1)[0], []
    workers = [threading.Thread(target=lambda: results.extend(outputs(make_interpreter(content, num_threads=2), 200))) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(results) == 200 * threads and set(results) == {expected}


def after_fork(content: bytes) -> bool:
    """A child that inherits an interpreter whose pool has run can run it too; its threads are not there."""
    interpreter = make_interpreter(content, num_threads=2)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tobytes()
    child = os.fork()
    if child == 0:
        interpreter.invoke()
        os._exit(0 if interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tobytes() == expected else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def grows(title: str, step: Callable[[int], None], count: int) -> bool:
    step(max(1, count // 10))
    before = resident_kb()
    step(count - count // 10)
    after = resident_kb()
    print(f"{title:12}{count:10,}{before:12,} KB{after:12,} KB{after - before:+8,} KB", flush=True)
    return after - before > GROWTH_KB


def run(num_cycles: int, num_inferences: int, num_resizes: int, threads: int) -> bool:
    """Prints the table; whether all is well."""
    content = small_model()
    print(f"{'':12}{'count':>10}{'before':>15}{'after':>15}")
    bad = [grows("cycles", cycles(content), num_cycles), grows("inferences", inferences(content), num_inferences), grows("resizes", resizes(content), num_resizes)]
    same, forked = together(content, threads), after_fork(content)
    print(f"{threads} threads, an interpreter each: outputs {'equal' if same else 'DIFFER'}; after a fork: {'equal' if forked else 'DIFFERENT'}")
    return not any(bad) and same and forked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--inferences", type=int, default=1_000_000)
    parser.add_argument("--resizes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=8)
    arguments = parser.parse_args()
    return 0 if run(arguments.cycles, arguments.inferences, arguments.resizes, arguments.threads) else 1


if __name__ == "__main__":
    sys.exit(main())
