"""`make demo`: trains a small Keras model, compresses it, runs both through LiteRT and prints one table, before and after.

    python samples/digits_demo.py
"""

import time

import digits

import tflite_smart as ts
from tflite_smart import tables
from tflite_smart.benchmark import BenchmarkSettings, benchmark
from tflite_smart.evaluate import evaluate
from tflite_smart.runner import Runner


def main() -> None:
    start = time.perf_counter()
    model = digits.trained_model()
    before = str(digits.tflite("float"))
    after = str(digits.OUT / "digits.smart.tflite")
    with tables.progress_bars() as progress:
        ts.convert(model, output=after, overwrite=True, progress=progress)
        figures = benchmark([before, after], BenchmarkSettings(rounds=5), lambda done, total: progress("measure", done, total))
    _, (x, y) = digits.data()
    accuracies = [evaluate(Runner(path), x, y).top1 for path in (before, after)]
    rows = [[name, tables.size(r.file_bytes), tables.size(r.zipped_bytes), tables.size(r.peak_memory_bytes), tables.size(r.own_memory_bytes),
             tables.milliseconds(r.cold_start_ms), tables.milliseconds(r.latency_ms), tables.percent(accuracy)]
            for name, r, accuracy in zip(["before (float .tflite)", "after (smart .tflite)"], figures, accuracies)]
    ratios = figures[1].ratios(figures[0])
    rows.append(["after / before", *[tables.ratio(ratios[key]) for key in ratios], f"{100 * (accuracies[1] - accuracies[0]):+.2f} points"])
    tables.print_table(
        "Handwritten digits: a Keras 3 CNN, run by LiteRT, 1 thread",
        ["model", "file", "zipped download", "peak memory", "without code", "cold start", "warm latency", "test accuracy"], rows,
        ["Peak memory is what opening and running the model added to the process; without code leaves out the pages of LiteRT's and our",
         f"own machine code, a fixed cost. Accuracy: {len(y)} images that training never saw. Both files: {digits.OUT}",
         f"Everything took {time.perf_counter() - start:.0f} s."])


if __name__ == "__main__":
    main()
