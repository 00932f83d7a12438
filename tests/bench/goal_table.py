"""What small files of CIFAR-10 networks keep of the accuracy: ours at fixed sizes, over several roundings, beside the float model and the peers of codec_table.py.

    pip install --no-deps nncodec zstandard
    python tests/bench/goal_table.py FOLDER [--models ResNet56 ResNet8 VGG16 ResNet20] [--roundings 4] [--as-it-is] [--json]

Every row of ours is a .tflite as a device loads it, with nothing else needed, at a size that was fixed beforehand and at sizes a few per mille below: how one rounding happens to
fall moves top-1 by half a point, so the mean and the standard deviation over the roundings count. No setting is chosen by its figures: there is none to choose. Top-1 is on the 5,000 JPEG
test images, SNR that of the outputs on 512 of them against the float model's. FOLDER is that of codec_table.py, whose results for the peers are used if they are there. Not part of the tests.
"""

import argparse
import json
from pathlib import Path
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.bench import codec_table, peers  # noqa: E402

# (data-free, with calibration images)
GOALS_BYTES = {"ResNet56": (300_000, 250_000), "ResNet8": (48_000, 40_000), "VGG16": (190_600, 92_400), "ResNet20": (137_600, 110_100)}
_STEP = 0.003  # from one rounding's size to the next
_AS_LARGE = 1.011  # what of NNCodec's points counts as one of that size
_PEERS = ("int8+zstd", "int4+zstd")


def goals(name: str, num_roundings: int) -> list[tuple[str, int, list[dict]]]:
    """Coder of ours, the size, and the settings of its roundings."""
    sizes = zip(codec_table.OURS, GOALS_BYTES[name])
    return [(coder, goal, [{"target_size_bytes": round(goal * (1 - _STEP * number))} for number in range(num_roundings)]) for coder, goal in sizes]


def measure(name: str, subject: codec_table.Subject, results: codec_table.Results, num_roundings: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "coded.tflite"
        for coder, _, settings in goals(name, num_roundings):
            for setting in settings:
                results.get(name, coder, setting, len(subject.x), lambda: codec_table.measure_ours(subject, coder, setting, scratch))
                print(f"{name}: {coder} {setting} done", file=sys.stderr, flush=True)
        for coder in _PEERS:
            for setting in peers.PEERS[coder][1]:
                results.get(name, coder, setting, len(subject.x), lambda: codec_table.measure_peer(subject, coder, setting, scratch))


def table(name: str, subject: codec_table.Subject, results: codec_table.Results, num_roundings: int) -> list[dict]:
    """One row for the float model, the peers and each goal: `coder`, `bytes`, `snr_db`, `top1`, `std`, `roundings`."""
    top1 = float(np.mean(subject.answers.argmax(1) == subject.y))
    rows = [{"coder": "float", "bytes": subject.path.stat().st_size, "snr_db": None, "top1": top1, "std": 0.0, "roundings": 1}]
    for coder in _PEERS:
        rows += [_row(coder, [point]) for point in results.curve(name, coder)]
    points = sorted((point for coder in peers.PEERS if coder.startswith("nncodec") for point in results.curve(name, coder)), key=lambda point: point["file_bytes"])
    for coder, goal, settings in goals(name, num_roundings):
        # Of all that NNCodec was measured with, the best output at about as many bytes, as its steps of size are coarse, and the fewest bytes for an output as good as ours.
        ours = [point for point in results.curve(name, coder) if point["settings"] in settings]
        if not ours:
            continue
        rows.append(_row(f"{coder}, {goal} bytes", ours))
        smaller = [point for point in points if point["file_bytes"] <= _AS_LARGE * goal]
        as_good = [point for point in points if point["snr_db"] >= rows[-1]["snr_db"]]
        if smaller:
            rows.append(_row("  NNCodec of that size or smaller", [max(smaller, key=lambda point: point["snr_db"])]))
        if as_good:
            rows.append(_row("  NNCodec as good", [as_good[0]]))
    return rows


def _row(label: str, points: list[dict]) -> dict:
    mean = {key: float(np.mean([point[key] for point in points])) for key in ("file_bytes", "snr_db", "top1")}
    std = float(np.std([point["top1"] for point in points], ddof=1)) if len(points) > 1 else 0.0
    return {"coder": label, "bytes": round(mean["file_bytes"]), "snr_db": mean["snr_db"], "top1": mean["top1"], "std": std, "roundings": len(points)}


def print_table(name: str, rows: list[dict], num_images: int) -> None:
    whole = rows[0]
    print(f"\n{name}, top-1 on {num_images} images\n  {'':36s} {'bytes':>9s} {'smaller':>8s} {'SNR dB':>7s} {'top-1':>7s} {'points lost':>12s} {'std':>6s} {'roundings':>10s}")
    for row in rows:
        snr = "" if row["snr_db"] is None else f"{row['snr_db']:.2f}"
        lost = 100 * (whole["top1"] - row["top1"])
        print(f"  {row['coder']:36s} {row['bytes']:9d} {whole['bytes'] / row['bytes']:8.2f} {snr:>7s} {row['top1']:7.4f} {lost:12.2f} {100 * row['std']:6.2f} {row['roundings']:10d}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["ResNet56", "ResNet8"], choices=list(GOALS_BYTES))
    parser.add_argument("--roundings", type=int, default=4, help="how many sizes, .3 %% apart (default: %(default)s)")
    parser.add_argument("--images", type=int, default=5000, help="how many labelled images (default: %(default)s, all there are)")
    parser.add_argument("--again", action="store_true", help="forget our own results first")
    parser.add_argument("--as-it-is", action="store_true", help="print what was measured so far, and measure nothing")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    results = codec_table.Results(options.folder / "results.json", codec_table.OURS if options.again else [])
    tables = {}
    for name in options.models:
        subject = codec_table.open_subject(name, options.folder, options.images)
        if not options.as_it_is:
            measure(name, subject, results, options.roundings)
        tables[name] = table(name, subject, results, options.roundings)
        if not options.json:
            print_table(name, tables[name], len(subject.x))
    if options.json:
        print(json.dumps(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
