"""Target: the delegate under LiteRT's own interpreter. Small smart models of every op, changed at random where a file can be changed: packed weights behind right check sums,
options, shapes, types, quantization, what is connected to what, and single bytes.

    python delegates/fuzz/interpreter.py --seconds 60 [--seed N] [--library PATH]

Models run in a process of their own (tests/hostile.py), with a library built with the address sanitizer where run.py hands one in. Prints how many were tried and what came of them; a model
that kills the process is kept in build/fuzz/findings/interpreter unless the builtin op of another library does it too, without us.
"""

import argparse
import collections
import random
import subprocess
import sys
import time
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests import hostile
from tests.delegates import models
from tests.golden_errors.sealing import sealed

FINDINGS = ROOT / "build" / "fuzz" / "findings" / "interpreter"
EDGES = (0, 1, 2, 3, 4, 7, 31, 32, 33, 64, 255, 1 << 16, 2**31 - 1, -1, -2, -(2**31))


def seeds() -> list[bytes]:
    """A model for every op and value kind."""
    rng = np.random.default_rng(2101)
    kinds = ("uniform", "midrise", "codebook", "dependent", "smartdeal")
    conv = [models.conv_model((1, 6, 5, 8), models.random_weight(rng, (40, 3, 3, 8), 0, value_kind=kind), (3, 3, 8)) for kind in kinds]
    depthwise = models.conv_model((1, 6, 5, 40), models.random_weight(rng, (1, 3, 3, 40), 3, codec="bitpack"), (3, 3, 1), depth_multiplier=1)
    dense = models.fully_connected_model((3, 90), models.random_weight(rng, (33, 90), 0, codec="sparse"), bias=np.zeros(33, np.float32))
    expand = models.expand_model(models.random_weight(rng, (5, 34, 3), 1, value_kind="integer", codec="raw"), (5, 34, 3), 1)
    gather = models.gather_model(models.random_weight(rng, (40, 12), 0), (3, 4), (5,))
    return [*conv, depthwise, dense, expand, gather]


def mutated(model: bytes, rng: random.Random) -> bytes:
    """One to four changes. Single bytes are changed last, in the file itself."""
    tree = schema.ModelT.InitFromPackedBuf(bytearray(model))
    for _ in range(rng.randint(1, 4)):
        rng.choice(CHANGES)(tree, rng)
    builder = flatbuffers.Builder(4096)
    try:
        builder.Finish(tree.Pack(builder), b"TFL3")
    except (TypeError, ValueError, OverflowError):  # a number that its field can't hold
        return model
    content = bytearray(builder.Output())
    if rng.random() < 0.2:
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def _change_packed(tree, rng):
    buffer = rng.choice([buffer for buffer in tree.buffers if buffer.data is not None and bytes(buffer.data[:4]) == b"TFSW"] or tree.buffers)
    if buffer.data is None or len(buffer.data) == 0:
        return
    blob = bytearray(bytes(buffer.data))
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(5, 40) if rng.random() < 0.5 else rng.randrange(len(blob))
        blob[position % len(blob)] = rng.choice((rng.randrange(256), 0, 1, 255))
    blob = blob[: len(blob) - rng.choice((0, 0, 0, 1, 4))]
    buffer.data = np.frombuffer(sealed(bytes(blob)) if len(blob) >= 80 else bytes(blob), np.uint8)


def _change_options(tree, rng):
    op = rng.choice(tree.subgraphs[0].operators)
    if op.customOptions is None:
        return
    content = bytes(bytearray(op.customOptions))
    if rng.random() < 0.3:
        content = bytearray(content)
        content[rng.randrange(len(content))] = rng.randrange(256)
        op.customOptions = np.frombuffer(bytes(content), np.uint8)
        return
    try:
        options = flexbuffers.Loads(content)
        options[rng.choice(list(options))] = rng.choice((*EDGES, "SAME", "RELU6", "", "x" * 300, 1.5, None, [1, 2], 1 << 62))
        op.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(options)), np.uint8)
    except Exception:  # an earlier change has made it no map: the reader of the tests gives up, ours has to cope
        return


def _change_shape(tree, rng):
    tensor = rng.choice(tree.subgraphs[0].tensors)
    tensor.shape = np.array(tensor.shape, np.int32)
    if rng.random() < 0.3 or len(tensor.shape) == 0:
        tensor.shape = np.array([rng.choice((0, 1, 2, 5, 8)) for _ in range(rng.randint(0, 9))], np.int32)
    else:
        tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice(EDGES)


def _change_tensor(tree, rng):
    tensor = rng.choice(tree.subgraphs[0].tensors)
    field = rng.choice(("type", "buffer", "quantization", "isVariable", "shapeSignature"))
    if field == "quantization":
        tensor.quantization = schema.QuantizationParametersT()
        count = rng.choice((0, 1, 2, 40))
        tensor.quantization.scale = np.array([rng.choice((0.0, 1.0, -1.0, np.nan, np.inf, 1e-40)) for _ in range(count)], np.float32)
        tensor.quantization.zeroPoint = np.array([rng.choice((0, -129, 5, 2**40)) for _ in range(count)], np.int64)
        tensor.quantization.quantizedDimension = rng.choice((0, 1, 3, -1))
    elif field == "shapeSignature":
        tensor.shapeSignature = np.array([rng.choice((-1, 1, 4)) for _ in range(rng.randint(0, 5))], np.int32)
    else:
        setattr(tensor, field, {"type": rng.randrange(18), "buffer": rng.randrange(len(tree.buffers)), "isVariable": True}[field])


def _change_connections(tree, rng):
    graph = tree.subgraphs[0]
    op = rng.choice([op for op in graph.operators if op.customOptions is not None])
    ends = list(rng.choice((op.inputs, op.outputs)))
    if ends and rng.random() < 0.8:
        ends[rng.randrange(len(ends))] = rng.randrange(-1, len(graph.tensors))
    else:
        ends = ends[:-1] if rng.random() < 0.5 else [*ends, rng.randrange(len(graph.tensors))]
    setattr(op, rng.choice(("inputs", "outputs")) if rng.random() < 0.1 else "inputs", np.array(ends, np.int32))


CHANGES = (_change_packed, _change_packed, _change_options, _change_options, _change_shape, _change_tensor, _change_connections)


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
        outcome = judge.outcome(model)
        counts[outcome.kind] += 1
        if outcome.kind in ("crash", "hang"):
            FINDINGS.mkdir(parents=True, exist_ok=True)
            path = FINDINGS / f"{outcome.kind}_{arguments.seed}_{sum(counts.values())}.tflite"
            path.write_bytes(model)
            print(f"{path}: {outcome.detail[:600]}", flush=True)
    judge.close()
    tried = sum(counts.values())
    print(f"Done {tried} runs in {time.monotonic() - begin:.0f} second(s): {counts['named']} named by us, {counts['litert']} by LiteRT, {counts['valid']} valid, "
          f"{counts['crash']} crashes, {counts['hang']} hangs")  # fmt: skip
    return 1 if counts["crash"] + counts["hang"] else 0


if __name__ == "__main__":
    sys.exit(main())
