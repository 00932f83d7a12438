"""Measures one model in this process and prints the figures as JSON. Started by benchmark.py, one process per model and round.

    python -m tflite_smart.benchmark_child '{"model": PATH, "num_threads": N, "num_runs": N, "warmup_runs": N, "cpus": [..]}'

Memory is the kernel's own account. The peak (VmHWM in /proc/self/status) is reset after the imports, so that `peak_memory_bytes` is
what opening and running the model added, everything counted. Two parts of it are named, because the kernel can drop and re-read them:

    model_pages_bytes   pages of the model file itself (LiteRT maps it)
    code_pages_bytes    pages of libraries: code of LiteRT, XNNPACK and our delegate that ran for the first time. A fixed cost of a few
                        MB, shared by all processes of a device, which hides the model's own needs where the model is small

A model that breaks a rule prints {"error": MESSAGE} and exits with 2.
"""

import gc
import json
import os
import sys
import time

from tflite_smart.arrays import random_inputs
from tflite_smart.converter.errors import TFLiteSmartError
import tflite_smart.delegates  # noqa: F401  Python's part of it is no part of the cold start; loading the library is
from tflite_smart.interpreter import Interpreter

_CLEAR_PEAK = "5"  # see clear_refs in proc(5)


def _memory() -> dict[str, int]:
    """Returns the Vm* and Rss* lines of /proc/self/status in bytes."""
    with open("/proc/self/status") as status:
        fields = (line.split() for line in status if line.startswith(("VmHWM", "VmRSS", "RssFile")))
        return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in fields}


def _resident_bytes(path: str) -> int:
    """Returns how much of the file's mappings is in memory, from /proc/self/smaps."""
    total, inside = 0, False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            if "-" in line.split(" ", 1)[0]:  # the first line of a mapping: address range, flags, ..., path
                inside = line.rstrip().endswith(path)
            elif inside and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def _reset_peak() -> bool:
    gc.collect()
    try:
        with open("/proc/self/clear_refs", "w") as control:
            control.write(_CLEAR_PEAK)
        return True
    except OSError:  # some containers forbid it: the growth is then at most understated
        return False


def _pin(cpus: list[int]) -> bool:
    try:
        os.sched_setaffinity(0, cpus)
        return True
    except OSError:
        return False


def measure(model: str, num_threads: int, num_runs: int, warmup_runs: int, cpus: list[int]) -> dict:
    """Opens and runs the model once for the cold start, then `warmup_runs` and `num_runs` times.

    Returns: cold_start_ms (open to first output), latencies_ms, the memory figures named above, peak_was_reset, pinned, pid.
    """
    pinned = _pin(cpus)
    peak_was_reset = _reset_peak()
    before = _memory()

    start = time.perf_counter()
    interpreter = Interpreter(model_path=model, num_threads=num_threads)
    interpreter.allocate_tensors()
    opened = time.perf_counter()
    # Making up inputs is not the model's time.
    details = interpreter.get_input_details()
    for detail, array in zip(details, random_inputs(details, 1).values()):
        interpreter.set_tensor(detail["index"], array.reshape(detail["shape"]))
    invoke = time.perf_counter()
    interpreter.invoke()
    for detail in interpreter.get_output_details():
        interpreter.get_tensor(detail["index"])
    cold_start_ms = (time.perf_counter() - invoke + opened - start) * 1e3

    for _ in range(warmup_runs):
        interpreter.invoke()
    latencies_ms = []
    for _ in range(num_runs):
        start = time.perf_counter()
        interpreter.invoke()
        latencies_ms.append((time.perf_counter() - start) * 1e3)

    after = _memory()
    model_pages = _resident_bytes(os.path.realpath(model))
    return {
        "cold_start_ms": cold_start_ms,
        "latencies_ms": latencies_ms,
        "peak_memory_bytes": after["VmHWM"] - before["VmHWM"],
        "model_pages_bytes": model_pages,
        "code_pages_bytes": after["RssFile"] - before["RssFile"] - model_pages,
        "peak_was_reset": peak_was_reset,
        "pinned": pinned,
        "pid": os.getpid(),
    }


def main(job: str) -> int:
    """Prints the figures, or the error, as one line of JSON; returns the exit code."""
    try:
        print(json.dumps(measure(**json.loads(job))))
        return 0
    except (TFLiteSmartError, RuntimeError) as error:  # RuntimeError: LiteRT's word for an op it can't prepare or run
        print(json.dumps({"error": str(error)}))
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
