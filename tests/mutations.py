"""Models changed at random, wherever a file can be changed: packed weights behind right check sums, options, shapes, types, quantization, what is connected to what, single bytes."""

import contextlib
import random

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from tests.golden_errors.sealing import sealed

EDGES = (0, 1, 2, 3, 4, 7, 31, 32, 33, 64, 255, 1 << 16, 2**31 - 1, -1, -2, -(2**31))


def mutated(model: bytes, rng: random.Random, builtin: bool = False) -> bytes:
    """One to four changes. Single bytes are changed last, in the file itself.

    Args:
        builtin: also what belongs to the runtime's own operators, which its kernels don't always survive.
    """
    tree = schema.ModelT.InitFromPackedBuf(bytearray(model))
    for _ in range(rng.randint(1, 4)):
        with contextlib.suppress(IndexError, TypeError, AttributeError):  # an earlier change has left nothing there
            rng.choice(CHANGES + BUILTIN_CHANGES if builtin else CHANGES)(tree, rng)
    builder = flatbuffers.Builder(4096)
    try:
        builder.Finish(tree.Pack(builder), b"TFL3")
    except (TypeError, ValueError, OverflowError, AttributeError):  # a number that its field can't hold
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
    op = rng.choice([op for op in graph.operators if op.customOptions is not None] or graph.operators)
    ends = list(rng.choice((op.inputs, op.outputs)))
    if ends and rng.random() < 0.8:
        ends[rng.randrange(len(ends))] = rng.randrange(-1, len(graph.tensors))
    else:
        ends = ends[:-1] if rng.random() < 0.5 else [*ends, rng.randrange(len(graph.tensors))]
    setattr(op, rng.choice(("inputs", "outputs")) if rng.random() < 0.1 else "inputs", np.array(ends, np.int32))


CHANGES = (_change_packed, _change_packed, _change_options, _change_options, _change_shape, _change_tensor, _change_connections)


def _change_builtin_options(tree, rng):
    op = rng.choice(tree.subgraphs[0].operators)
    if op.builtinOptions is None or rng.random() < 0.1:
        op.builtinOptionsType, op.builtinOptions = 0, None
        return
    field = rng.choice(list(vars(op.builtinOptions)))
    setattr(op.builtinOptions, field, rng.choice(EDGES))


def _change_operator(tree, rng):
    op = rng.choice(tree.subgraphs[0].operators)
    field = rng.choice(("opcodeIndex", "inputs", "outputs"))
    setattr(op, field, rng.choice((0, 1, 99)) if field == "opcodeIndex" else None if rng.random() < 0.5 else np.array([-1], np.int32))


def _change_code(tree, rng):
    code = rng.choice(tree.operatorCodes)
    code.builtinCode = code.deprecatedBuiltinCode = rng.choice((0, 3, 4, 9, 32, 36, 125, -1))
    code.customCode = rng.choice((None, b"TFLiteSmart.Conv2D", b"TFLiteSmart.Future", b"\xff\xfe"))


def _change_graph(tree, rng):
    graph = tree.subgraphs[0]
    field = rng.choice(("inputs", "outputs", "tensors", "operators", "name"))
    setattr(graph, field, rng.choice((None, [])) if field in ("tensors", "operators") else None if rng.random() < 0.5 else b"\xff" if field == "name" else np.array([rng.choice((0, 1, 77))], np.int32))


BUILTIN_CHANGES = (_change_builtin_options, _change_operator, _change_code, _change_graph)
