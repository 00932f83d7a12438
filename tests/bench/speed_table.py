"""The table of whole models beside LiteRT with XNNPACK: warm latency, cold start and peak memory, as ratios smart / original, and how latency scales
with threads.

    python tests/bench/speed_table.py FOLDER [--int8 | --integer] [--keras FILE ...] [--threads 1 2] [--rounds N] [--models NAME ...] [--json]

FOLDER holds the originals, NAME.tflite; their smart versions are made beside them, NAME.smart.tflite, unless they are there already. With
`--build` the networks of the table that FOLDER lacks are built first, with random weights from Laplace distributions (needs TensorFlow), and those of `--keras`.
With `--int8` ours are computed in int8 (`--compute int8`) and the other side is LiteRT's dynamic-range version of the same network, NAME.dynamic.tflite, which `--build --int8`
writes too. A model that is dynamic-range itself is measured with `--int8` alone, beside itself. With `--integer` it is the full-integer version of the network, NAME.integer.tflite,
calibrated with noise, and ours is the same recompressed: the same integers. A model that is full-integer itself is measured with `--integer` alone, beside itself.
Not part of the tests: the figures are those of this machine now. Models are taken in turn, each run in its own process (see
tflite_smart/benchmark.py); every ratio is a median over the rounds.
"""

import argparse
import dataclasses
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

@dataclasses.dataclass(frozen=True)
class Table:
    """What a table is of: which models, as `weights_of` says it, how the files of either side end, and the recipe of ours."""

    itself: str
    ending: str
    smart: str
    recipe: dict | str


TABLES = {
    "float32": Table("float32", ".tflite", ".smart.tflite", RECIPE),
    "int8": Table("dynamic-range", ".dynamic.tflite", ".int8.smart.tflite", {**RECIPE, "global_config": {"compute": "int8"}}),
    "integer": Table("full-integer", ".integer.tflite", ".integer.smart.tflite", "recompress_int8"),
}


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


def noise(model):
    """Calibration inputs of a Keras model."""
    rng = np.random.default_rng(SEED)
    for _ in range(4):
        yield [rng.standard_normal((1, *x.shape[1:])).astype(np.float32) for x in model.inputs]


def converted(model, itself: str) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if itself != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if itself == "full-integer":
        converter.representative_dataset = lambda: noise(model)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def build_missing(folder: Path, keras_files: list[Path], names: list[str] | None, table: Table) -> None:
    """Writes the networks of the table, and those of `keras_files`, that are not in `folder`: float, and as the other side of `table` wants them."""
    makers = {name: lambda builder=builder: random_network(builder) for name, builder in BUILDERS.items()}
    makers |= {path.stem: lambda path=path: saved_network(path) for path in keras_files}
    endings = {TABLES["float32"].ending: "float32", table.ending: table.itself}
    for name, make in makers.items():
        missing = {name + ending: itself for ending, itself in endings.items() if not (folder / (name + ending)).exists()}
        if not missing or (names and name not in names):
            continue
        model = make()
        for file, itself in missing.items():
            (folder / file).write_bytes(converted(model, itself))


def weights_of(path: Path) -> str:
    """What convolutions and dense layers multiply: `float32`, `dynamic-range` where float32 activations meet int8 weights, `full-integer` where int8 ones do."""
    model, float32, int8 = Model.read(str(path)), schema.TensorType.FLOAT32, schema.TensorType.INT8
    types = [
        [subgraph.tensors[int(index)].type for index in op.inputs[:2]]
        for subgraph in model.schema.subgraphs
        for op in subgraph.operators or ()
        if model.op_name(op) in ("CONV_2D", "FULLY_CONNECTED")
    ]
    return "dynamic-range" if [float32, int8] in types else "full-integer" if [int8, int8] in types else "float32"


def pairs(folder: Path, names: list[str] | None, table: Table) -> dict[str, tuple[str, str]]:
    """Paths of the other side and of the smart version by name; missing smart versions are made."""
    found = {}
    for path in sorted(folder.glob("*.tflite")):
        name = path.name.removesuffix(".tflite")
        if "." in name or (names and name not in names):  # NAME.smart and the like
            continue
        itself = weights_of(path)
        other = path if itself == table.itself else folder / (name + table.ending)
        if itself not in ("float32", table.itself) or not other.exists():
            print(f"{name} left out: {f'no {other.name}' if itself == 'float32' else f'it is {itself} itself'}", file=sys.stderr)
            continue
        smart = folder / (name + table.smart)
        if not smart.exists():
            convert(str(other if table.itself == "full-integer" else path), table.recipe, output=str(smart))
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
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--int8", action="store_const", dest="table", const="int8", default="float32", help="ours in int8 against LiteRT's dynamic-range models")
    which.add_argument("--integer", action="store_const", dest="table", const="integer", help="full-integer models, recompressed, against themselves")
    parser.add_argument("--keras", nargs="+", type=Path, default=[], metavar="FILE", help=".keras and .h5 files to build as well")
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    table = TABLES[options.table]
    if options.build:
        build_missing(options.folder, options.keras, options.models, table)
    rows = {}
    for name, (original, smart) in pairs(options.folder, options.models, table).items():
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
