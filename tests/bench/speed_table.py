"""The table of whole models beside LiteRT with XNNPACK: warm latency, cold start and peak memory, as ratios smart / original, and how latency scales
with threads.

    python tests/bench/speed_table.py FOLDER [--int8] [--keras FILE ...] [--threads 1 2] [--rounds N] [--models NAME ...] [--json]

FOLDER holds the originals, NAME.tflite; their smart versions are made beside them, NAME.smart.tflite, unless they are there already. With
`--build` the networks of the table that FOLDER lacks are built first, with random weights from Laplace distributions (needs TensorFlow), and those of `--keras`.
With `--int8` ours are computed in int8 (`--compute int8`) and the other side is LiteRT's dynamic-range version of the same network, NAME.dynamic.tflite, which `--build --int8`
writes too. A model that is dynamic-range itself is measured with `--int8` alone, beside itself. A full-integer model belongs into the table without it: its recompressed self
computes in integers anyway.
Not part of the tests: the figures are those of this machine now. Models are taken in turn, each run in its own process (see
tflite_smart/benchmark.py); every ratio is a median over the rounds.
"""

import argparse
import json
import math
from pathlib import Path
import statistics
import sys

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from tflite_smart import benchmark, convert
from tflite_smart.converter.errors import UnsupportedModelError
from tflite_smart.converter.model_editor import Model

SEED = 3
WEIGHT_SCALE = 0.05

# Quick, and as large as a model within 0.1 point of its accuracy: how well it predicts makes no difference here.
RECIPE = {"error_budget": 0.02}

DYNAMIC = ".dynamic.tflite"


def application(name: str):
    def build():
        import keras

        return getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))

    return build


def mlp():
    import keras
    from keras import layers

    return keras.Sequential([keras.Input((4096,)), layers.Dense(4096, activation="relu"), layers.Dense(4096, activation="relu"), layers.Dense(1000)])


def transformer():
    """An encoder of 6 layers, 384 wide, for 128 tokens."""
    import keras
    from keras import layers

    tokens = keras.Input((128, 384))
    x = tokens
    for _ in range(6):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(6, 64)(x, x))
        hidden = layers.Dense(4 * 384, activation="relu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(384)(hidden))
    return keras.Model(tokens, x)


BUILDERS = {name: application(name) for name in ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "VGG16", "DenseNet121")}
BUILDERS |= {"Transformer": transformer, "MLP": mlp}


def random_network(builder):
    import keras

    keras.utils.set_random_seed(SEED)
    model, rng = builder(), np.random.default_rng(SEED)
    model.set_weights([rng.laplace(0, WEIGHT_SCALE, w.shape).astype(np.float32) if w.ndim > 1 else w for w in model.get_weights()])
    return model


def saved_network(path: Path):
    import keras
    import tf_keras

    try:
        return keras.models.load_model(path, compile=False)
    except Exception:  # a legacy .h5 that Keras 3 refuses
        return tf_keras.models.load_model(path, compile=False)


def build_missing(folder: Path, keras_files: list[Path], int8: bool) -> None:
    """Writes the networks of the table, and those of `keras_files`, that are not in `folder`: float, and dynamic-range if `int8`."""
    makers = {name: lambda builder=builder: random_network(builder) for name, builder in BUILDERS.items()}
    makers |= {path.stem: lambda path=path: saved_network(path) for path in keras_files}
    for name, make in makers.items():
        missing = {name + ending: dynamic for ending, dynamic in ((".tflite", False), (DYNAMIC, True)) if (int8 or not dynamic) and not (folder / (name + ending)).exists()}
        if not missing:
            continue
        import tensorflow as tf

        model = make()
        for file, dynamic in missing.items():
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            converter.optimizations = [tf.lite.Optimize.DEFAULT] if dynamic else []
            (folder / file).write_bytes(converter.convert())


def is_dynamic_range(path: Path) -> bool:
    """Whether a convolution or a dense layer multiplies float32 activations with int8 weights."""
    model = Model.read(str(path))
    types = [
        [subgraph.tensors[int(index)].type for index in op.inputs[:2]]
        for subgraph in model.schema.subgraphs
        for op in subgraph.operators or ()
        if model.op_name(op) in ("CONV_2D", "FULLY_CONNECTED")
    ]
    return [schema.TensorType.FLOAT32, schema.TensorType.INT8] in types


def pairs(folder: Path, names: list[str] | None, int8: bool) -> dict[str, tuple[str, str]]:
    """Paths of the other side and of the smart version by name; missing smart versions are made."""
    found = {}
    recipe = {**RECIPE, "global_config": {"compute": "int8"}} if int8 else RECIPE
    for path in sorted(folder.glob("*.tflite")):
        name = path.name.removesuffix(".tflite")
        if "." in name or (names and name not in names):  # NAME.smart and the like
            continue
        itself = is_dynamic_range(path)
        other = path if itself or not int8 else folder / (name + DYNAMIC)
        if itself and not int8 or not other.exists():
            print(f"{name} left out: {'its weights are int8, measure it with --int8' if itself else f'no {other.name}'}", file=sys.stderr)
            continue
        smart = folder / f"{name}{'.int8' if int8 else ''}.smart.tflite"
        if not smart.exists():
            convert(str(path), recipe, output=str(smart))
        found[name] = (str(other), str(smart))
    return found


def measure(original: str, smart: str, num_threads: int, rounds: int) -> dict[str, float]:
    """Ratios of one model: the median over rounds of two processes each, one after the other."""
    ratios: dict[str, list[float]] = {"latency_ms": [], "cold_start_ms": [], "peak_memory_bytes": []}
    settings = benchmark.BenchmarkSettings(num_threads=num_threads, num_runs=20, warmup_runs=3, rounds=1)
    latencies = []
    for _ in range(rounds):
        base, result = benchmark.benchmark([original, smart], settings)
        latencies.append((base.latency_ms, result.latency_ms))
        for key, values in ratios.items():
            values.append(result.ratios(base)[key])
    figures = {key: statistics.median(values) for key, values in ratios.items()}
    # The least disturbed run of each: what remains of the ratio on a machine where others work too.
    figures["fastest_latency"] = min(s for _, s in latencies) / min(b for b, _ in latencies)
    figures["original_ms"], figures["smart_ms"] = min(b for b, _ in latencies), min(s for _, s in latencies)
    figures["original_bytes"] = Path(original).stat().st_size
    return figures


def geometric_mean(values) -> float:
    return math.exp(statistics.fmean(math.log(v) for v in values))


def scaling(by_threads: dict[int, dict[str, float]], key: str) -> float:
    """How many times faster the most threads are than the fewest."""
    return by_threads[min(by_threads)][key] / by_threads[max(by_threads)][key]


def report(rows: dict[str, dict[int, dict[str, float]]], threads: list[int]) -> str:
    """The table as text."""
    columns = "cold start  peak memory  scaling XNNPACK  smart"
    lines = [f"{'model':24s}" + "".join(f" | {n} thread{'s' * (n > 1)}: XNNPACK  latency  (fastest)" for n in threads) + f" | {columns}"]
    for name, by_threads in rows.items():
        cells = "".join(f" | {f['original_ms']:14.2f} ms  {f['latency_ms']:7.2f}  {f['fastest_latency']:9.2f} " for f in by_threads.values())
        first = by_threads[threads[0]]
        lines.append(f"{name:24s}{cells} | {first['cold_start_ms']:10.2f}  {first['peak_memory_bytes']:11.2f}"
                     f"  {scaling(by_threads, 'original_ms'):15.2f}  {scaling(by_threads, 'smart_ms'):5.2f}")
    means = "".join(f" | {'':17s}  {geometric_mean(r[n]['latency_ms'] for r in rows.values()):7.2f}  "
                    f"{geometric_mean(r[n]['fastest_latency'] for r in rows.values()):9.2f} " for n in threads)
    cold = geometric_mean(r[threads[0]]["cold_start_ms"] for r in rows.values())
    lines.append(f"{'geometric mean':24s}{means} | {cold:10.2f}")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build", action="store_true", help="build the networks of the table that the folder lacks")
    parser.add_argument("--int8", action="store_true", help="ours in int8 against LiteRT's dynamic-range models")
    parser.add_argument("--keras", nargs="+", type=Path, default=[], metavar="FILE", help=".keras and .h5 files to build as well")
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.build:
        build_missing(options.folder, options.keras, options.int8)
    rows = {}
    for name, (original, smart) in pairs(options.folder, options.models, options.int8).items():
        try:
            rows[name] = {n: measure(original, smart, n, options.rounds) for n in options.threads}
        except UnsupportedModelError as error:  # LiteRT can't run some of its own dynamic-range models
            print(f"{name} left out: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        print(f"{name} done", file=sys.stderr)
    if not rows:
        print(f"{options.folder}: must hold NAME.tflite. Received: no such file. Add --build.", file=sys.stderr)
        return 2
    print(json.dumps(rows) if options.json else report(rows, options.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
