"""Target: the delegate under LiteRT's own interpreter. Small smart models of every op, changed at random where a file can be changed (tests/mutations.py).

    python delegates/fuzz/interpreter.py --seconds 60 [--seed N] [--library PATH]

Models run in a process of their own (tests/hostile.py), with a library built with the address sanitizer where run.py hands one in. Prints how many were tried and what came of them; a model
that kills the process is kept in build/fuzz/findings/interpreter unless the builtin op of another library does it too, without us.
"""

import argparse
import collections
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests import hostile
from tests.delegates import models
from tests.mutations import mutated

FINDINGS = ROOT / "build" / "fuzz" / "findings" / "interpreter"


def seeds() -> list[bytes]:
    """A model for every op and value kind."""
    rng = np.random.default_rng(2101)
    kinds = ("uniform", "midrise", "codebook", "dependent", "smartdeal")
    conv = [models.conv_model((1, 6, 5, 8), models.random_weight(rng, (40, 3, 3, 8), 0, value_kind=kind), (3, 3, 8)) for kind in kinds]
    depthwise = models.conv_model((1, 6, 5, 40), models.random_weight(rng, (1, 3, 3, 40), 3, codec="bitpack"), (3, 3, 1), depth_multiplier=1)
    dense = models.fully_connected_model((3, 90), models.random_weight(rng, (33, 90), 0, codec="sparse"), bias=np.zeros(33, np.float32))
    expand = models.expand_model(models.random_weight(rng, (5, 34, 3), 1, value_kind="integer", codec="raw"), (5, 34, 3), 1)
    gather = models.gather_model(models.random_weight(rng, (40, 12), 0), (3, 4), (5,))
    return [*conv, depthwise, dense, expand, gather]


def sanitized(library: str) -> dict[str, str]:
    """The environment in which Python can load a library with GCC's address sanitizer."""
    # The sanitizer looks for __cxa_throw when it starts: Python is a C program, so the C++ library has to be there as early.
    runtime = " ".join(subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip() for name in ("libasan.so", "libstdc++.so"))
    # LiteRT and Python leak by design at exit; a huge allocation must fail as it would without the sanitizer.
    return {"TFLITE_SMART_LIBRARY": library, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=2048"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=2101)
    parser.add_argument("--library", help="a build with -fsanitize=address by g++")
    arguments = parser.parse_args()

    rng, judge, originals = random.Random(arguments.seed), hostile.Judge(sanitized(arguments.library) if arguments.library else None), seeds()
    for model in originals:
        outcome = judge.outcome(model)
        if outcome.kind != "valid":
            print(f"a seed must run. Received: {outcome}")
            return 2
    counts, end = collections.Counter(), time.monotonic() + arguments.seconds
    begin = time.monotonic()
    while time.monotonic() < end:
        model = mutated(rng.choice(originals), rng)
        outcome = judge.outcome(model)
        counts[outcome.kind] += 1
        if outcome.kind in ("crash", "hang"):
            FINDINGS.mkdir(parents=True, exist_ok=True)
            path = FINDINGS / f"{outcome.kind}_{arguments.seed}_{sum(counts.values())}.tflite"
            path.write_bytes(model)
            print(f"{path}: {outcome.detail[:600]}", flush=True)
    judge.close()
    tried = sum(counts.values())
    print(f"Done {tried} runs in {time.monotonic() - begin:.0f} second(s): {counts['named']} named by us, {counts['litert']} by LiteRT, {counts['valid']} valid, "
          f"{counts['crash']} crashes, {counts['hang']} hangs")  # fmt: skip
    return 1 if counts["crash"] + counts["hang"] else 0


if __name__ == "__main__":
    sys.exit(main())
