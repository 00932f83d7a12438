"""Single layers beside XNNPACK: the shapes of delegates/bench/layers.csv, one model of one layer each, both in this process, in turn.

    taskset -c 1 python tests/bench/layer_table.py [--model NAME ...] [--op conv depthwise dense] [--threads N] [--isa NAME]

Prints microseconds and the ratio smart / XNNPACK, as the ratio of the fastest bursts and as the median over pairs of bursts. With one thread the clock is
the processor time of this thread, which other programs disturb less.
"""

import argparse
import csv
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, load_delegate

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.delegates import models  # noqa: E402
from tflite_smart.converter.compress import TensorSettings, compress_tensor  # noqa: E402
from tflite_smart.delegates import native  # noqa: E402

NUMBERS = ("height", "width", "channels", "outputs", "filter_height", "filter_width", "stride", "count")
BURST_SECONDS = 0.003
SEED = 1


def read_layers(path: Path) -> list[dict]:
    """The rows of the data file. A dense layer's `height` is its number of rows."""
    with open(path, newline="") as file:
        return [{key: int(value) if key in NUMBERS else value for key, value in row.items()} for row in csv.DictReader(file)]


def shapes(layer: dict) -> tuple[tuple, tuple, tuple, int]:
    """Shapes of input, filter and output, and the channel axis of the filter."""
    h, w, c, n, filter_h, filter_w, stride = (layer[key] for key in NUMBERS[:-1])
    if layer["op"] == "dense":
        return (h, c), (n, c), (h, n), 0
    reach = (0, 0) if layer["padding"] == "SAME" else (filter_h - 1, filter_w - 1)
    out = (1, -(-(h - reach[0]) // stride), -(-(w - reach[1]) // stride), n)
    if layer["op"] == "depthwise":
        return (1, h, w, c), (1, filter_h, filter_w, n), out, 3
    return (1, h, w, c), (n, filter_h, filter_w, c), out, 0


def plain_options(layer: dict):
    """Name of the builtin op and its options."""
    activation = getattr(schema.ActivationFunctionType, layer["activation"])
    if layer["op"] == "dense":
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        return "FULLY_CONNECTED", options
    options = schema.DepthwiseConv2DOptionsT() if layer["op"] == "depthwise" else schema.Conv2DOptionsT()
    options.strideH = options.strideW = layer["stride"]
    options.dilationHFactor = options.dilationWFactor = 1
    options.padding = getattr(schema.Padding, layer["padding"])
    options.fusedActivationFunction = activation
    if layer["op"] == "depthwise":
        options.depthMultiplier = layer["outputs"] // layer["channels"]
        return "DEPTHWISE_CONV_2D", options
    return "CONV_2D", options


def smart_options(layer: dict):
    """Name of our op and its options."""
    if layer["op"] == "dense":
        return "TFLiteSmart.FullyConnected", {"activation": layer["activation"], "keep_num_dims": 0}
    options = {**models.CONV_OPTIONS, **{key: layer[key] for key in ("padding", "activation")}}
    options |= {"stride_h": layer["stride"], "stride_w": layer["stride"], "filter_h": layer["filter_height"], "filter_w": layer["filter_width"]}
    if layer["op"] == "depthwise":
        return "TFLiteSmart.DepthwiseConv2D", {**options, "depth_multiplier": layer["outputs"] // layer["channels"]}
    return "TFLiteSmart.Conv2D", {**options, "filter_in": layer["channels"]}


def build(layer: dict, smart: bool) -> bytes:
    """A model of this one layer; the same weights every time, from a Laplace distribution."""
    rng = np.random.default_rng(SEED)
    x_shape, filter_shape, y_shape, axis = shapes(layer)
    values = rng.laplace(0, 0.05, filter_shape).astype(np.float32)
    model = models.ModelBuilder()
    x, y = model.tensor("x", x_shape), model.tensor("y", y_shape)
    bias = model.constant("bias", rng.normal(size=layer["outputs"]).astype(np.float32))
    if smart:
        weight = model.packed("weight", compress_tensor(values, axis, TensorSettings(relative_error=0.02)).blob)
        name, options = smart_options(layer)
        model.custom(name, [x, weight, bias], [y], options)
    else:
        name, options = plain_options(layer)
        model.builtin(name, [x, model.constant("weight", values), bias], [y], options)
    return model.build([x], [y])


def prepare(content: bytes, delegates: list, num_threads: int) -> Interpreter:
    interpreter = Interpreter(model_content=content, num_threads=num_threads, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.random.default_rng(SEED).normal(size=detail["shape"]).astype(np.float32))
    interpreter.invoke()
    return interpreter


def burst(interpreter: Interpreter, runs: int, clock) -> float:
    """Microseconds per run."""
    start = clock()
    for _ in range(runs):
        interpreter.invoke()
    return (clock() - start) / runs * 1e6


def measure(layer: dict, options) -> tuple[float, float, float]:
    """Fastest microseconds of XNNPACK and of ours, and the median ratio."""
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    settings = {"num_threads": options.threads} | ({"isa": options.isa} if options.isa else {})
    both = [prepare(build(layer, False), [], options.threads),
            prepare(build(layer, True), [load_delegate(native.library_path(), settings)], options.threads)]
    runs = [max(1, int(BURST_SECONDS * 1e6 / burst(interpreter, 3, clock))) for interpreter in both]
    taken = [[burst(interpreter, n, clock) for interpreter, n in zip(both, runs)] for _ in range(options.pairs)]
    plain, smart = zip(*taken)
    return min(plain), min(smart), statistics.median(s / p for p, s in taken)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=Path, default=ROOT / "delegates" / "bench" / "layers.csv")
    parser.add_argument("--model", nargs="+")
    parser.add_argument("--op", nargs="+", choices=["conv", "depthwise", "dense"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--isa")
    options = parser.parse_args(arguments)
    totals: dict[str, np.ndarray] = {}
    print(f"{'model':20s} {'layer':42s} {'XNNPACK us':>10s} {'smart us':>10s}  fastest  median")
    for layer in read_layers(options.layers):
        if (options.model and layer["model"] not in options.model) or (options.op and layer["op"] not in options.op):
            continue
        plain, smart, ratio = measure(layer, options)
        size = "{op} {height}x{width}x{channels}->{outputs} {filter_height}x{filter_width}/{stride} x{count}".format(**layer)
        print(f"{layer['model'][:20]:20s} {size:42s} {plain:10.1f} {smart:10.1f}  {smart / plain:7.2f} {ratio:7.2f}", flush=True)
        totals[layer["model"]] = totals.get(layer["model"], np.zeros(2)) + layer["count"] * np.array([plain, smart])
    for name, (plain, smart) in totals.items():
        print(f"{name[:20]:20s} {'all layers':42s} {plain:10.1f} {smart:10.1f}  {smart / plain:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
