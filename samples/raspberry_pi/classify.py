"""Classifies pictures (.jpg, .png, .ppm), recordings (.wav) and arrays (.npy): `python classify.py smart.tflite file ... [--labels labels.txt]`.

With --watch it goes on and classifies whatever is put into a folder: what smart-classify.service runs. Works on a Raspberry Pi and everywhere else.
"""

import argparse
from pathlib import Path
import resource
import sys
import time

import numpy as np

import inputs
import tflite_smart as ts


class Classifier:
    """A model with one input and one score per class as its first output."""

    def __init__(self, model: str, num_threads: int, mean: float, std: float, labels: list[str]):
        start = time.perf_counter()
        self.interpreter = ts.Interpreter(model_path=model, num_threads=num_threads)
        self.interpreter.allocate_tensors()
        self.source, self.result = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]
        self.mean, self.std, self.labels = mean, std, labels
        self.open_ms = 1000 * (time.perf_counter() - start)

    def __call__(self, path: str, top: int) -> str:
        """The best classes and the time, in one line. Raises: ValueError, OSError: the file can't be read."""
        self.interpreter.set_tensor(self.source["index"], inputs.load(path, self.source, self.mean, self.std))
        start = time.perf_counter()
        self.interpreter.invoke()
        run_ms = 1000 * (time.perf_counter() - start)
        scores = self.interpreter.get_tensor(self.result["index"]).reshape(-1).astype(np.float64)
        scale, zero_point = self.result["quantization"]
        if scale:
            scores = scale * (scores - zero_point)
        best = ", ".join(f"{self.name(i)} {scores[i]:.4f}" for i in np.argsort(-scores)[:top])
        return f"{path}: {best} ({run_ms:.1f} ms)"

    def name(self, i: int) -> str:
        return self.labels[i] if i < len(self.labels) else f"class {i}"


def watch(folder: Path, seconds: float):
    """Yields every file of the folder once it is complete: when it looks as it did a moment before."""
    seen, done = {}, {}
    while True:
        now = {str(path): path.stat().st_mtime_ns for path in sorted(folder.iterdir()) if path.is_file()}
        for path, changed in now.items():
            if seen.get(path) == changed != done.get(path):
                done[path] = changed
                yield path
        seen = now
        done = {path: changed for path, changed in done.items() if path in now}
        time.sleep(seconds)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a .tflite file, smart or plain")
    parser.add_argument("files", nargs="*", help="what to classify")
    parser.add_argument("--labels", type=Path, help="names of the classes, one a line")
    parser.add_argument("--mean", type=float, default=0, help="float models get pictures as (0..255 - mean) / std (default: %(default)s)")
    parser.add_argument("--std", type=float, default=1, help="(default: %(default)s)")
    parser.add_argument("--num-threads", type=int, default=4)
    parser.add_argument("--top", type=int, default=3, help="how many classes to print (default: %(default)s)")
    parser.add_argument("--watch", type=Path, metavar="FOLDER", help="classify what is put there, until stopped")
    return parser


def main() -> int:
    arguments = build_parser().parse_args()
    labels = arguments.labels.read_text().splitlines() if arguments.labels else []
    classifier = Classifier(arguments.model, arguments.num_threads, arguments.mean, arguments.std, labels)
    failed = 0
    for path in watch(arguments.watch, seconds=0.5) if arguments.watch else arguments.files:
        try:
            print(classifier(path, arguments.top), flush=True)
        except (ValueError, OSError) as error:
            failed += 1
            print(f"{path}: {error}", file=sys.stderr, flush=True)
    print(f"opened in {classifier.open_ms:.1f} ms, peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
