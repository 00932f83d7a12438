"""Prints what the default recipe does to models: size, fidelity, memory, start, latency, each against the original in the same run.

    python samples/model_table.py MODEL [MODEL ...] [--recipe NAME] [--rounds 3] [--num-threads 1] [--json]

MODEL is anything that `tflite_smart convert` takes. SNR is what `convert` reports; cosine and top-1 agreement come from 32 made-up inputs of the same range: they say how alike the two
models are, not how good either is.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import tflite_smart as ts
from tflite_smart import tables
from tflite_smart.benchmark import BenchmarkSettings, benchmark
from tflite_smart.converter import from_keras
from tflite_smart.converter.synthetic import RANGES, synthetic_inputs
from tflite_smart.converter.verify import Comparer
from tflite_smart.runner import Runner

COLUMNS = ["model", "file", "smaller", "SNR", "cosine", "top-1 same", "peak memory", "cold start", "latency"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--recipe", default="lossless_accuracy")
    parser.add_argument("--rounds", type=int, default=3, help="processes per model and figure (default 3)")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(model, arguments, Path(folder)))
        if not arguments.json:
            print(f"{rows[-1]['model']}: {rows[-1]['ratio']:.2f} times smaller", file=sys.stderr)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        tables.print_table(f"{arguments.recipe}, {arguments.num_threads} thread(s); memory, start and latency: smart / original", COLUMNS, [cells(row) for row in rows])
    return 0


def measure(model: str, arguments: argparse.Namespace, folder: Path) -> dict:
    """All figures of one model."""
    plain, smart = folder / "original.tflite", folder / "smart.tflite"
    shutil.copy(from_keras.to_tflite(model, str(folder)).path if from_keras.is_keras_source(model) else model, plain)
    report = ts.convert(str(plain), recipe=arguments.recipe, output=smart)
    fidelity = {"snr_db": report.output_snr_db, "measured_on": report.measured_on, **compare(plain, smart, report.measured_on)}
    settings = BenchmarkSettings(num_threads=arguments.num_threads, rounds=arguments.rounds)
    after, before = benchmark([str(smart), str(plain)], settings)
    return {
        "model": os.path.basename(model), "file_bytes_before": report.file_bytes_before, "file_bytes_after": report.file_bytes_after,
        "ratio": report.ratio, **fidelity, "ratios": after.ratios(before), "convert_seconds": sum(report.seconds.values()),
    }  # fmt: skip


def compare(plain: Path, smart: Path, measured_on: str) -> dict:
    """Worst cosine and smallest share of equal top-1 over all outputs."""
    a, b = Runner(plain), Runner(smart)
    sets = dict(zip(RANGES, synthetic_inputs(a.inputs, num_samples=32)))
    comparers: dict[str, Comparer] = {}
    for sample in sets.get(measured_on, next(iter(sets.values()))):
        feed = {detail["name"]: values for detail, values in zip(a.inputs, sample)}
        ours = list(b.real(b.from_other(a, feed)).values())
        for (name, theirs), mine in zip(a.real(feed).items(), ours):
            comparers.setdefault(name, Comparer(name)).add(theirs, mine)
    results = [comparer.result() for comparer in comparers.values()]
    return {"cosine": min(r.cosine for r in results), "top1": min((r.top1 for r in results if r.top1 is not None), default=None)}


def cells(row: dict) -> list[str]:
    ratios = row["ratios"]
    return [
        tables.short_name(row["model"], 34), f"{tables.size(row['file_bytes_before'])} -> {tables.size(row['file_bytes_after'])}", f"{row['ratio']:.2f}x",
        "-" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB", f"{row['cosine']:.5f}", tables.percent(row["top1"]),
        tables.ratio(ratios["peak_memory_bytes"]), tables.ratio(ratios["cold_start_ms"]), tables.ratio(ratios["latency_ms"]),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
