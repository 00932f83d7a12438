"""Memory, start and latency of models, each in its own process, taken in turn: A B A B A B.

One process per model and round, because memory once touched and code once loaded would flatter whoever comes second. In turn, because
a machine that slows down (heat, neighbours) must slow down all of them. Every figure is the median over the rounds.
"""

from dataclasses import asdict, dataclass
import json
import os
import statistics
import subprocess
import sys

from tflite_smart.converter.errors import ModelFormatError, UnsupportedModelError
from tflite_smart.files import zipped_bytes


@dataclass(frozen=True)
class BenchmarkSettings:
    """How to measure. `num_runs` and `warmup_runs` are per process, as in LiteRT's benchmark_model."""

    num_threads: int = 1
    num_runs: int = 50
    warmup_runs: int = 5
    rounds: int = 3


@dataclass(frozen=True)
class BenchmarkResult:
    """Figures of one model; see benchmark_child.py for what the memory figures count."""

    model: str
    file_bytes: int
    zipped_bytes: int
    peak_memory_bytes: int
    model_pages_bytes: int
    code_pages_bytes: int
    cold_start_ms: float
    latency_ms: float
    latency_min_ms: float
    peak_was_reset: bool
    pinned: bool
    pids: tuple[int, ...]

    @property
    def own_memory_bytes(self) -> int:
        """The peak without the pages of library code."""
        return self.peak_memory_bytes - self.code_pages_bytes

    def to_dict(self) -> dict:
        return {**asdict(self), "own_memory_bytes": self.own_memory_bytes}

    def ratios(self, base: "BenchmarkResult") -> dict[str, float]:
        """Returns this model's figures divided by those of `base`: below 1 is smaller or faster."""
        fields = ["file_bytes", "zipped_bytes", "peak_memory_bytes", "own_memory_bytes", "cold_start_ms", "latency_ms"]
        return {f: getattr(self, f) / getattr(base, f) for f in fields if getattr(base, f)}


def benchmark(models: list[str], settings: BenchmarkSettings = BenchmarkSettings(), progress=None) -> list[BenchmarkResult]:
    """Measures every model and returns the results in the same order.

    Args:
        progress: function (done, total), called after each process.
    Raises: ModelFormatError, UnsupportedModelError: a model that can't be opened or run.
    """
    samples: list[list[dict]] = [[] for _ in models]
    total = settings.rounds * len(models)
    for index in range(total):
        which = index % len(models)
        samples[which].append(_run_child(models[which], settings))
        if progress:
            progress(index + 1, total)
    return [_summary(model, rounds) for model, rounds in zip(models, samples)]


def _run_child(model: str, settings: BenchmarkSettings) -> dict:
    if not os.path.isfile(model):
        raise ModelFormatError(f"{model}: no such file. Give the path of a .tflite model.")
    job = {"model": os.path.abspath(model), "num_threads": settings.num_threads, "num_runs": settings.num_runs,
           "warmup_runs": settings.warmup_runs, "cpus": sorted(os.sched_getaffinity(0))[:settings.num_threads]}
    # Not in the caller's folder, which `-m` would search first: in a checkout it holds a half of this package.
    child = subprocess.run([sys.executable, "-m", "tflite_smart.benchmark_child", json.dumps(job)],
                           capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=os.sep)
    lines = child.stdout.strip().splitlines()
    if child.returncode == 0:
        return json.loads(lines[-1])
    if child.returncode == 2 and lines:
        raise UnsupportedModelError(json.loads(lines[-1])["error"])
    raise UnsupportedModelError(f"{model}: the process that ran it must end well. Received: exit code {child.returncode}, "
                                f"{(child.stderr.strip().splitlines() or ['no message'])[-1]}")


def _summary(model: str, rounds: list[dict]) -> BenchmarkResult:
    def median(key: str) -> float:
        return statistics.median(r[key] for r in rounds)

    return BenchmarkResult(
        model=model,
        file_bytes=os.path.getsize(model),
        zipped_bytes=zipped_bytes(model),
        peak_memory_bytes=int(median("peak_memory_bytes")),
        model_pages_bytes=int(median("model_pages_bytes")),
        code_pages_bytes=int(median("code_pages_bytes")),
        cold_start_ms=median("cold_start_ms"),
        latency_ms=statistics.median(statistics.median(r["latencies_ms"]) for r in rounds),
        latency_min_ms=min(min(r["latencies_ms"]) for r in rounds),
        peak_was_reset=all(r["peak_was_reset"] for r in rounds),
        pinned=all(r["pinned"] for r in rounds),
        pids=tuple(r["pid"] for r in rounds))
