"""Target: the delegate under LiteRT's own interpreter. Small smart models of every op, changed at random where a file can be changed (tests/mutations.py).

    python delegates/fuzz/interpreter.py --seconds 60 [--seed N] [--library PATH]

Models run in a process of their own (tests/hostile.py), with a library built with the address sanitizer where run.py hands one in. Prints how many were tried and what came of them; a model
that kills the process, or hangs, is kept in build/fuzz/findings/interpreter. Where the sanitizer's trace shows that no code of ours was at work, LiteRT's own kernel did it, and it is only counted.
Models that LiteRT alone does not survive, and that show it only later, are not run.
"""

import argparse
import collections
import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests import hostile
from tests.delegates import models
from tests.mutations import mutated

FINDINGS = ROOT / "build" / "fuzz" / "findings" / "interpreter"


def seeds() -> list[bytes]:
    """A model for every op and value kind."""
    rng = np.random.default_rng(2101)
    kinds = ("uniform", "midrise", "codebook", "dependent", "smartdeal")
    conv = [models.conv_model((1, 6, 5, 8), models.random_weight(rng, (40, 3, 3, 8), 0, value_kind=kind), (3, 3, 8)) for kind in kinds]
    depthwise = models.conv_model((1, 6, 5, 40), models.random_weight(rng, (1, 3, 3, 40), 3, codec="bitpack"), (3, 3, 1), depth_multiplier=1)
    dense = models.fully_connected_model((3, 90), models.random_weight(rng, (33, 90), 0, codec="sparse"), bias=np.zeros(33, np.float32))
    expand = models.expand_model(models.random_weight(rng, (5, 34, 3), 1, value_kind="integer", codec="raw"), (5, 34, 3), 1)
    gather = models.gather_model(models.random_weight(rng, (40, 12), 0), (3, 4), (5,))
    return [*conv, depthwise, dense, expand, gather, between_layers(rng)]


def between_layers(rng) -> bytes:
    """Builtin operators between two layers of ours, most of which the delegate takes over."""
    model, shape = models.ModelBuilder(), (1, 6, 6, 8)
    options = {**models.CONV_OPTIONS, "filter_h": 1, "filter_w": 1, "filter_in": 8}
    x, last = model.tensor("x", shape), model.tensor("first", shape)
    model.custom("TFLiteSmart.Conv2D", [x, model.packed("w0", models.random_weight(rng, (8, 1, 1, 8), 0)), -1], [last], options)
    first = last

    def then(name, inputs, shape, options=None):
        nonlocal last
        output = model.tensor(f"{name}_{len(model.graph.tensors)}", shape)
        model.builtin(name, inputs, [output], options)
        last = output

    one = model.constant("one", np.full((1, 1, 1, 8), 0.5, np.float32))
    for name, inputs, kind in (("ADD", lambda: [last, first], schema.AddOptionsT), ("MUL", lambda: [last, one], schema.MulOptionsT), ("SUB", lambda: [last, first], schema.SubOptionsT), ("SQUARED_DIFFERENCE", lambda: [last, one], schema.SquaredDifferenceOptionsT)):
        then(name, inputs(), shape, kind())
    for name in ("HARD_SWISH", "LOGISTIC", "GELU", "NEG", "RSQRT", "RELU", "RELU_N1_TO_1", "RELU6"):
        then(name, [last], shape)
    then("SOFTMAX", [last], shape, schema.SoftmaxOptionsT(beta=1.0))
    for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        then(name, [last], shape, schema.Pool2DOptionsT(padding=schema.Padding.SAME, strideW=1, strideH=1, filterWidth=2, filterHeight=2))
    then("PAD", [last, model.constant("margins", np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.int32))], (1, 7, 7, 8))
    filters = [model.constant(f"f{i}", rng.normal(size=size).astype(np.float32)) for i, size in enumerate([(8, 2, 2, 8), (1, 2, 2, 8)])]
    zeros = model.constant("zeros", np.zeros(8, np.float32))
    then("CONV_2D", [last, filters[0], zeros], shape, schema.Conv2DOptionsT(schema.Padding.VALID, 1, 1))
    then("DEPTHWISE_CONV_2D", [last, filters[1], zeros], shape, schema.DepthwiseConv2DOptionsT(schema.Padding.SAME, 1, 1, 1))
    then("CONCATENATION", [last, first], (1, 6, 6, 16), schema.ConcatenationOptionsT(axis=3))
    then("TRANSPOSE", [last, model.constant("order", np.array([0, 2, 1, 3], np.int32))], (1, 6, 6, 16))
    then("BATCH_MATMUL", [last, model.constant("matrix", rng.normal(size=(16, 16)).astype(np.float32))], (1, 6, 6, 16), schema.BatchMatMulOptionsT(adjY=True))
    then("MEAN", [last, model.constant("axes", np.array([1, 2], np.int32))], (1, 1, 1, 16), schema.ReducerOptionsT(keepDims=True))
    then("RESHAPE", [last, model.constant("flat", np.array([1, 16], np.int32))], (1, 16), schema.ReshapeOptionsT(newShape=[1, 16]))
    y = model.tensor("y", (1, 5))
    model.custom("TFLiteSmart.FullyConnected", [last, model.packed("w1", models.random_weight(rng, (5, 16), 0)), -1], [y], {"activation": "NONE", "keep_num_dims": 0})
    return model.build([x], [y])


def is_written_twice(content: bytes) -> bool:
    """Whether a builtin operator and another one write the same tensor. If the other changes its shape, XNNPACK goes on writing as many elements as before, beyond the end; the heap's
    owner notices that thousands of models later."""
    writers = collections.defaultdict(list)
    with contextlib.suppress(Exception):  # no flatbuffer any more: LiteRT says so
        model = schema.ModelT.InitFromPackedBuf(bytearray(content))
        for op in model.subgraphs[0].operators:
            for tensor in op.outputs:
                writers[int(tensor)].append(model.operatorCodes[op.opcodeIndex].customCode is None)
    return any(len(builtin) > 1 and any(builtin) for builtin in writers.values())


def sanitized(library: str) -> dict[str, str]:
    """The environment in which Python can load a library with GCC's address sanitizer."""
    # The sanitizer looks for __cxa_throw when it starts: Python is a C program, so the C++ library has to be there as early.
    runtime = " ".join(subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip() for name in ("libasan.so", "libstdc++.so"))
    # LiteRT and Python leak by design at exit; a huge allocation must fail as it would without the sanitizer.
    return {"TFLITE_SMART_LIBRARY": library, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=2048"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=2101)
    parser.add_argument("--library", help="a build with -fsanitize=address by g++")
    arguments = parser.parse_args()

    rng, judge, originals = random.Random(arguments.seed), hostile.Judge(sanitized(arguments.library) if arguments.library else None), seeds()
    for model in originals:
        outcome = judge.outcome(model)
        if outcome.kind != "valid":
            print(f"a seed must run. Received: {outcome}")
            return 2
    counts, end = collections.Counter(), time.monotonic() + arguments.seconds
    begin = time.monotonic()
    while time.monotonic() < end:
        model = mutated(rng.choice(originals), rng)
        if is_written_twice(model):
            continue
        outcome = judge.outcome(model)
        if outcome.kind == "hang":  # a busy machine may stop a process for so long; what really hangs does so again
            outcome = judge.outcome(model)
        theirs = outcome.kind == "crash" and "#0 0x" in outcome.detail and "tflite_smart" not in outcome.detail
        counts["theirs" if theirs else outcome.kind] += 1
        if outcome.kind in ("crash", "hang") and not theirs:
            FINDINGS.mkdir(parents=True, exist_ok=True)
            path = FINDINGS / f"{outcome.kind}_{arguments.seed}_{sum(counts.values())}.tflite"
            path.write_bytes(model)
            print(f"{path}: {outcome.detail[:600]}", flush=True)
    judge.close()
    tried = sum(counts.values())
    print(f"Done {tried} runs in {time.monotonic() - begin:.0f} second(s): {counts['named']} named by us, {counts['litert']} by LiteRT, {counts['valid']} valid, "
          f"{counts['crash']} crashes, {counts['hang']} hangs; {counts['theirs']} crashes of LiteRT's own kernels")  # fmt: skip
    return 1 if counts["crash"] + counts["hang"] else 0


if __name__ == "__main__":
    sys.exit(main())
