"""Our rate / fidelity curve beside NNCodec's, int8 and int4 with zstd, and SZ3: whole-model bytes, bits per weight, output SNR, top-1.

    pip install --no-deps nncodec zstandard pysz
    python tests/bench/codec_table.py FOLDER [--models NAME ...] [--coders NAME ...] [--again NAME ...] [--as-it-is] [--json]

FOLDER keeps the models, the inputs and every result (results.json): the same command goes on where it was stopped, and `--again smart` measures our own curve anew after a
change. Peers code the same constants that ours packs; their weights go back into the float .tflite, which LiteRT runs, ours runs through the delegate. `file` is everything a device
needs: our .tflite as it is; for the peers the coded weights and what remains of the .tflite without them, after zstd. `bits` counts the coded weights with all their headers and scales.

The last tables compare at equal size, by interpolation between the points: dB that we have more than the best of NNCodec's curves at equal bits per weight, and our bytes over its
bytes at equal output SNR, for the whole file as it is, and for both in an app's package. NNCodec is given its best: on the folded filters, on filters as they were before batch
normalisation was folded in, on channels brought to one size, with one step and with steps that it tunes. Not part of the tests.
"""

import argparse
import dataclasses
import json
from pathlib import Path
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests import cifar  # noqa: E402
from tests.bench import before_folding, bench_models, peers  # noqa: E402
from tflite_smart.converter import convert, encoding, probe, selection  # noqa: E402
from tflite_smart.converter.errors import TargetError  # noqa: E402
from tflite_smart.converter.model_editor import Model  # noqa: E402
from tflite_smart.interpreter import Interpreter  # noqa: E402

NUM_JUDGED = 512  # inputs on which the SNR is measured
_BATCH = 64
OURS = ("smart", "smart calibrated")
CODERS = (*OURS, *peers.PEERS)
BIT_RATES, SNRS_DB = (2, 3, 4, 5, 6), (10, 15, 20, 25, 30)
_TARGETS_DB = (10, 16, 22, 28, 34)  # of ours; bits would not do: a network half of whose channels are dead takes less than 2 at its finest


@dataclasses.dataclass
class Subject:
    """A model, its weights as the converter sees them, the inputs to judge on and to calibrate with, what batch normalisation multiplied the filters by, and what the float model answers."""

    path: Path
    weights: list[selection.Weight]
    x: np.ndarray
    y: np.ndarray | None
    calibration: np.ndarray
    factors: dict[str, np.ndarray]
    answers: np.ndarray = None

    @property
    def num_weights(self) -> int:
        return sum(w.info.num_elements for w in self.weights)


def settings_of(coder: str) -> list[dict]:
    """What a coder is measured with."""
    return [{"target_snr_db": target} for target in _TARGETS_DB] if coder in OURS else peers.PEERS[coder][1]


def open_subject(name: str, folder: Path, num_images: int) -> Subject:
    data, model = cifar.data_folder(), bench_models.MODELS[name]
    path = bench_models.tflite_of(name, data.parent / "models", folder)
    recipe = convert.resolve(None)
    weights = [entry.weight for entry in encoding.plan(Model.read(path), recipe)[0] if not isinstance(entry.decision, encoding.Skip)]
    x, y = model.inputs(data, "test", folder)
    keras = bench_models.keras_source(name, data.parent / "models", folder)
    factors = before_folding.factors(keras, {str(w.buffer): np.moveaxis(w.values(), w.info.axis, 0) for w in weights}) if keras else {}
    subject = Subject(path, weights, x[:num_images], None if y is None else y[:num_images], model.inputs(data, "train", folder)[0], factors)
    subject.answers = answers(path, subject.x)
    return subject


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    """The first output for all samples."""
    interpreter, outputs = Interpreter(model_path=str(path), num_threads=1), []
    for start in range(0, len(x), _BATCH):
        probe.calibration.run(interpreter, [x[start : start + _BATCH]])
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(outputs)


def judge(subject: Subject, path: Path) -> dict[str, float]:
    outputs = answers(path, subject.x)
    figures = {"snr_db": probe.output_snr_db([[subject.answers[:NUM_JUDGED]]], [[outputs[:NUM_JUDGED]]])}
    if subject.y is not None:
        figures["top1"] = float(np.mean(outputs.argmax(1) == subject.y))
        figures["agreement"] = float(np.mean(outputs.argmax(1) == subject.answers.argmax(1)))
    return figures


def measure_ours(subject: Subject, coder: str, settings: dict, scratch: Path) -> dict[str, float] | None:
    """None where the target can't be reached: headers and scales alone take more."""
    data = subject.calibration if coder == "smart calibrated" else None
    try:
        report = convert.convert(str(subject.path), settings, calibration_data=data, output=scratch, overwrite=True)
    except TargetError:
        return None
    weight_bytes = sum(row.bytes_after for row in report.packed)
    return {"file_bytes": scratch.stat().st_size, "zipped_bytes": peers.zstd_bytes(scratch.read_bytes()), "weight_bytes": weight_bytes, **judge(subject, scratch)}


def measure_peer(subject: Subject, coder: str, settings: dict, scratch: Path) -> dict[str, float]:
    content = bytearray(subject.path.read_bytes())
    start = np.frombuffer(content, np.uint8)
    model = Model.read(subject.path)
    origin = np.frombuffer(model.mapping, np.uint8).ctypes.data
    named = {w.buffer: w for w in selection.find_weights(model)[0]}
    values = {str(w.buffer): np.ascontiguousarray(channels_first(named[w.buffer].values(), w.info.axis)) for w in subject.weights}
    given = {"factors": subject.factors} if coder in peers.NEED_FACTORS else {}
    coded_bytes, decoded = peers.PEERS[coder][0](values, **given, **settings)
    rest = bytearray(content)
    for weight in subject.weights:
        stored = named[weight.buffer].stored
        place = slice(stored.ctypes.data - origin, stored.ctypes.data - origin + stored.nbytes)
        content[place] = channels_back(decoded[str(weight.buffer)], stored.shape, weight.info.axis).astype(stored.dtype).tobytes()
        rest[place] = bytes(stored.nbytes)
    del start
    scratch.write_bytes(content)
    file_bytes = coded_bytes + peers.zstd_bytes(bytes(rest))
    return {"file_bytes": file_bytes, "zipped_bytes": file_bytes, "weight_bytes": coded_bytes, **judge(subject, scratch)}


def channels_first(values: np.ndarray, axis: int) -> np.ndarray:
    """Output channels, input channels, then the taps of the filter: the order of PyTorch, which the peers' coders were made for."""
    return np.moveaxis(np.moveaxis(values, axis, 0), -1, 1) if values.ndim > 2 and axis == 0 else np.moveaxis(values, axis, 0)


def channels_back(values: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    first = np.moveaxis(values, 1, -1) if len(shape) > 2 and axis == 0 else values
    return np.ascontiguousarray(np.moveaxis(first, 0, axis)).reshape(shape)


class Results:
    """Figures by model, coder and setting, kept in a file."""

    def __init__(self, path: Path, again: list[str]):
        self.path = path
        self.rows = json.loads(path.read_text()) if path.exists() else {}
        self.rows = {key: row for key, row in self.rows.items() if row["coder"] not in again}

    def get(self, model: str, coder: str, settings: dict, num_images: int, measure) -> None:
        key = json.dumps([model, coder, settings, num_images])
        if key not in self.rows:
            self.rows[key] = {"model": model, "coder": coder, "settings": settings, **(measure() or {})}
            self.path.write_text(json.dumps(self.rows, indent=1))

    def curve(self, model: str, coder: str) -> list[dict]:
        """In the order of size."""
        rows = [row for row in self.rows.values() if (row["model"], row["coder"]) == (model, coder) and "file_bytes" in row]
        return sorted(rows, key=lambda row: row["file_bytes"])


def interpolated(curves: list[list[dict]], x: str, y: str, at: float, best) -> float:
    """The best y of the curves at x; nan outside of all. Logarithms of sizes are interpolated, as they are nearly straight lines over dB."""
    found = []
    for curve in curves:
        points = sorted((row[x], row[y]) for row in curve if np.isfinite(row["snr_db"]))
        if len(points) > 1 and points[0][0] <= at <= points[-1][0]:
            found.append(float(np.interp(at, *zip(*points))))
    return best(found) if found else float("nan")


def print_points(name: str, subject: Subject, results: Results, coders: list[str]) -> None:
    size = subject.path.stat().st_size
    top1 = "" if subject.y is None else f", top-1 {np.mean(subject.answers.argmax(1) == subject.y):.4f} on {len(subject.x)} images"
    print(f"\n{name}: {size} bytes, {subject.num_weights} weights to code{top1}")
    print(f"  {'coder':18s} {'setting':24s} {'file':>9s} {'zipped':>9s} {'smaller':>8s} {'bits':>6s} {'SNR dB':>7s} {'top-1':>7s} {'same':>7s}")
    for coder in coders:
        for row in results.curve(name, coder):
            setting = ", ".join(f"{key}={value}" for key, value in row["settings"].items())
            labels = f"{row['top1']:7.4f} {row['agreement']:7.4f}" if "top1" in row else ""
            print(f"  {coder:18s} {setting:24s} {row['file_bytes']:9d} {row['zipped_bytes']:9d} {size / row['file_bytes']:8.2f} {row['bits']:6.3f} {row['snr_db']:7.2f} {labels}")


def print_margins(name: str, results: Results) -> None:
    peer = [results.curve(name, coder) for coder in peers.PEERS if coder.startswith("nncodec")]
    for coder in OURS:
        curve = results.curve(name, coder)
        gains = [interpolated([curve], "bits", "snr_db", at, max) - interpolated(peer, "bits", "snr_db", at, max) for at in BIT_RATES]
        ratios = [[interpolated([curve], "snr_db", of, at, min) / interpolated(peer, "snr_db", of, at, min) for at in SNRS_DB] for of in ("file_bytes", "zipped_bytes")]
        print(f"  {name:10s} {coder:18s} " + "   ".join(" ".join(f"{figure:7.{digits}f}" for figure in figures) for figures, digits in ((gains, 2), (ratios[0], 3), (ratios[1], 3))))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=list(bench_models.MODELS), choices=list(bench_models.MODELS))
    parser.add_argument("--coders", nargs="+", default=CODERS, choices=CODERS)
    parser.add_argument("--again", nargs="+", default=[], choices=CODERS, help="forget the results of these coders first")
    parser.add_argument("--images", type=int, default=5000, help="how many labelled images (default: %(default)s)")
    parser.add_argument("--as-it-is", action="store_true", help="print what was measured so far, and measure nothing")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    results = Results(options.folder / "results.json", options.again)
    subjects = {}
    for name in options.models:
        subject = subjects[name] = open_subject(name, options.folder, options.images)
        with tempfile.TemporaryDirectory() as scratch:
            for coder in () if options.as_it_is else options.coders:
                for settings in settings_of(coder):
                    measure = measure_ours if coder in OURS else measure_peer
                    results.get(name, coder, settings, options.images, lambda: measure(subject, coder, settings, Path(scratch) / "coded.tflite"))
                print(f"{name}: {coder} done", file=sys.stderr, flush=True)
        for row in results.rows.values():
            if row["model"] == name and "file_bytes" in row:
                row["bits"] = 8 * row["weight_bytes"] / subject.num_weights
    if options.json:
        print(json.dumps(list(results.rows.values())))
        return 0
    for name, subject in subjects.items():
        print_points(name, subject, results, options.coders)
    print(f"\nOurs beside NNCodec: dB more at {', '.join(map(str, BIT_RATES))} bits a weight; bytes of the whole file over NNCodec's at {', '.join(map(str, SNRS_DB))} dB, ours as it is, then ours after zstd, too")
    for name in subjects:
        print_margins(name, results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
