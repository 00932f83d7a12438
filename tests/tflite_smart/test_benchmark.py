"""What the benchmark measures is checked where the answer is known: sizes, processes, memory that is really there. No speed is judged."""

import json
import os
import zlib

import numpy as np
import pytest

from tflite_smart.benchmark import BenchmarkSettings, benchmark
from tflite_smart.converter.errors import ModelFormatError

FEW = BenchmarkSettings(num_runs=3, warmup_runs=1, rounds=2)


def test_every_model_and_round_has_its_own_process(float_model, smart_model):
    steps = []
    results = benchmark([float_model, smart_model], FEW, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    pids = [pid for r in results for pid in r.pids]
    assert len(set(pids)) == 4 and os.getpid() not in pids
    for path, r in zip([float_model, smart_model], results):
        assert r.model == path
        assert r.file_bytes == os.path.getsize(path)
        assert r.zipped_bytes == len(zlib.compress(open(path, "rb").read(), 9))
        assert 0 < r.latency_min_ms <= r.latency_ms < r.cold_start_ms
        assert 0 < r.own_memory_bytes <= r.peak_memory_bytes
    ratios = results[1].ratios(results[0])
    assert ratios["file_bytes"] == results[1].file_bytes / results[0].file_bytes


def test_memory_that_a_model_needs_is_seen(make_model, float_model):
    """A model with 16 MB more weights needs at least 16 MB more, and not more than the file page, the packed copy and a little."""
    extra = 16 << 20

    def widen(weights):
        rows = weights[2].shape[0] + extra // (4 * weights[2].shape[1])
        weights[2] = np.ones((rows, weights[2].shape[1]), np.float32)
    large = make_model("large.tflite", change=widen)
    small, big = benchmark([float_model, large], FEW)
    if not big.peak_was_reset:
        pytest.skip("this system does not let a process reset its peak memory (/proc/self/clear_refs)")
    growth = big.peak_memory_bytes - small.peak_memory_bytes
    assert 0.95 * extra < growth < 2.3 * extra
    assert 0 <= big.model_pages_bytes <= os.path.getsize(large) + 65536


def test_command_line(cli, float_model, smart_model):
    flags = ["--num-runs", 3, "--warmup-runs", 0, "--rounds", 1]
    done = cli("benchmark", smart_model, "--against", float_model, *flags, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [m["model"] for m in report["models"]] == [smart_model, float_model]
    assert set(report["models"][0]) >= {"file_bytes", "zipped_bytes", "peak_memory_bytes", "own_memory_bytes", "model_pages_bytes",
                                        "code_pages_bytes", "cold_start_ms", "latency_ms", "latency_min_ms", "peak_was_reset", "pinned"}
    assert 0.1 < report["ratios"][0]["file_bytes"] < 0.2
    table = cli("benchmark", smart_model, "--against", float_model, *flags).stdout
    assert "smart.tflite / float.tflite" in table and "peak memory" in table


def test_missing_model_is_named():
    with pytest.raises(ModelFormatError, match="nowhere.tflite"):
        benchmark(["nowhere.tflite"], FEW)
