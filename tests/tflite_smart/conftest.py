"""A small model made without TensorFlow, its compressed form, and the command line as a subprocess."""

import subprocess
import sys

from ai_edge_litert import schema_py_generated as schema
import flatbuffers
import numpy as np
import pytest


def _tensor(name: str, shape: list[int], buffer: int) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer, tensor.type = name, shape, buffer, schema.TensorType.FLOAT32
    return tensor


def _operator(opcode: int, inputs: list[int], outputs: list[int], options_type: int, options) -> schema.OperatorT:
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs, op.builtinOptionsType, op.builtinOptions = opcode, inputs, outputs, options_type, options
    return op


def _code(builtin: int, custom: str | None = None) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = builtin
    code.deprecatedBuiltinCode = min(builtin, 127)
    code.customCode, code.version = custom, 1
    return code


def build_model(change=None, custom_op: str | None = None) -> bytes:
    """Returns a float .tflite: x [1, 8, 8, 4] -> 3x3 convolution, 64 channels, RELU -> fully connected, scores [1, 10].

    Args:
        change: function that may edit the list of weights [filter, bias, matrix] in place.
        custom_op: name of a custom op to put in place of the last op.
    """
    rng = np.random.default_rng(11)
    weights = [rng.normal(0, 0.2, (64, 3, 3, 4)).astype("<f4"), rng.normal(0, 0.1, 64).astype("<f4"),
               rng.normal(0, 0.02, (10, 64 * 64)).astype("<f4")]
    if change:
        change(weights)

    graph = schema.SubGraphT()
    shapes = [("x", [1, 8, 8, 4], 0), ("conv/filter", [64, 3, 3, 4], 1), ("conv/bias", [64], 2), ("conv/output", [1, 8, 8, 64], 0),
              ("dense/matrix", list(weights[2].shape), 3), ("scores", [1, len(weights[2])], 0)]
    graph.tensors = [_tensor(*row) for row in shapes]
    graph.inputs, graph.outputs, graph.name = [0], [5], "main"
    conv = schema.Conv2DOptionsT()
    conv.padding, conv.strideH, conv.strideW = schema.Padding.SAME, 1, 1
    conv.fusedActivationFunction = schema.ActivationFunctionType.RELU
    graph.operators = [_operator(0, [0, 1, 2], [3], schema.BuiltinOptions.Conv2DOptions, conv),
                       _operator(1, [3, 4, -1], [5], schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT())]
    if custom_op:
        graph.operators[1].builtinOptionsType, graph.operators[1].builtinOptions = 0, None

    model = schema.ModelT()
    model.version, model.description, model.subgraphs = 3, "made by the tests", [graph]
    last = _code(schema.BuiltinOperator.CUSTOM, custom_op) if custom_op else _code(schema.BuiltinOperator.FULLY_CONNECTED)
    model.operatorCodes = [_code(schema.BuiltinOperator.CONV_2D), last]
    model.buffers = [schema.BufferT() for _ in range(4)]
    for buffer, values in zip(model.buffers[1:], weights):
        buffer.data = values.view(np.uint8).reshape(-1)
    builder = flatbuffers.Builder(1 << 18)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="session")
def float_model(tmp_path_factory) -> str:
    """Path of the small float model."""
    path = tmp_path_factory.mktemp("models") / "float.tflite"
    path.write_bytes(build_model())
    return str(path)


@pytest.fixture(scope="session")
def smart_model(float_model) -> str:
    """Path of the same model, compressed with 3 % rms error per tensor: two layers of 3 % add up to an SNR of about 27 dB."""
    import tflite_smart as ts

    path = float_model.replace("float.tflite", "smart.tflite")
    ts.convert(float_model, recipe={"global_config": {"relative_error": 0.03}}, output=path)
    return path


@pytest.fixture
def make_model(tmp_path):
    """Returns a function: arguments of build_model -> path."""
    def make(name: str = "made.tflite", **arguments) -> str:
        path = tmp_path / name
        path.write_bytes(build_model(**arguments))
        return str(path)

    return make


@pytest.fixture
def cli():
    """Returns a function that runs `tflite_smart ARGUMENTS` as a user does and returns code, output and error text."""
    def run(*arguments, **options) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "tflite_smart.cli", *map(str, arguments)], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=120, **options)

    return run


@pytest.fixture
def refused(cli):
    """Returns a function like `cli` that checks how a command is refused: code 2, one line, no traceback, nothing on standard output."""
    def run(*arguments) -> str:
        done = cli(*arguments)
        lines = [line for line in done.stderr.splitlines() if line.startswith("tflite_smart:")]
        assert done.returncode == 2, done.stderr
        assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
        assert done.stdout == ""
        return lines[0]

    return run
