"""What the converter promises of any model: a named error, or an output that is whole and equal. For hypothesis."""

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import Graph, differences, model_tree, packed, slimmed
from tflite_smart.converter.convert import convert
from tflite_smart.converter.errors import TFLiteSmartError
from tflite_smart.converter.expand import expand
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.rewrite import is_smart
from tflite_smart.inspect_model import inspect_model

RECIPE = {"min_weight_elements": 8, "bias_bits": 32, "global_config": {"relative_error": 0.05}}  # no target: nothing is run



def plain_models() -> list[bytes]:
    """Float, float16 and int8 weights, read by our kernels and by builtin operators behind an Expand."""
    return [packed(_plain_tree(dtype)) for dtype in ("float32", "float16", "int8")]


def _plain_tree(dtype: str) -> schema.ModelT:
    rng, tree = np.random.default_rng(7), model_tree()
    graph = Graph(tree)
    names, shapes = ("x", "h", "y", "z", "total"), ((1, 5, 5, 8), (1, 5, 5, 40), (1, 5, 5, 40), (1, 30), (1, 30))
    x, h, y, z, total = (graph.tensor(name, shape) for name, shape in zip(names, shapes))
    conv, depthwise, dense, offset = (_weight(graph, dtype, rng.normal(0, 0.2, shape), axis) for shape, axis in (((40, 3, 3, 8), 0), ((1, 3, 3, 40), 3), ((30, 1000), 0), ((1, 30), 1)))
    graph.op("CONV_2D", [x, conv, graph.constant("bias", np.ones(40, np.float32))], [h], schema.Conv2DOptionsT(0, 1, 1, 1))
    graph.op("DEPTHWISE_CONV_2D", [h, depthwise, graph.constant("bias", np.ones(40, np.float32))], [y], schema.DepthwiseConv2DOptionsT(0, 1, 1, 1))
    graph.op("FULLY_CONNECTED", [y, dense, -1], [z], schema.FullyConnectedOptionsT())
    graph.op("ADD", [z, offset], [total], schema.AddOptionsT())
    graph.finish([x], [total])
    return tree


def _weight(graph: Graph, dtype: str, values: np.ndarray, axis: int) -> int:
    """A constant that an operator may read; float16 ones go through DEQUANTIZE."""
    if dtype == "int8":
        count = values.shape[axis]
        return graph.constant("int8", np.clip(values * 100, -127, 127).astype(np.int8), ([0.01] * count, [0] * count, axis))
    constant = graph.constant(dtype, values.astype(dtype))
    if dtype == "float32":
        return constant
    wide = graph.tensor("wide", values.shape)
    graph.op("DEQUANTIZE", [constant], [wide], schema.DequantizeOptionsT())
    return wide


def smart_models(folder: Path) -> list[bytes]:
    """The same models after conversion."""
    converted = []
    for content in plain_models():
        convert(content, RECIPE, output=folder / "m.tflite", overwrite=True)
        converted.append((folder / "m.tflite").read_bytes())
    return converted


def examine(content: bytes, folder: Path) -> str:
    """Reads, writes, lists, converts and expands a model; returns `valid` or the name of the error. What breaks a promise raises something else.

    Args:
        folder: for intermediate files.
    """
    source, output = folder / "source.tflite", folder / "output.tflite"
    source.write_bytes(content)
    try:
        original = Model.read(source)
        original.write(output, overwrite=True)
        written = Model.read(output)
        assert differences(original.schema, written.schema) == []
        inspect_model(source)
        if is_smart(original):
            expand(source, output, overwrite=True)
            assert not is_smart(Model.read(output))
        else:
            _convert_and_back(original, source, output)
    except TFLiteSmartError as error:
        assert " must " in str(error) and "Received: " in str(error), str(error)
        return type(error).__name__
    return "valid"


def _convert_and_back(original: Model, source: Path, smart: Path) -> None:
    """Expanding gives back everything, integers bit for bit and floats within the error that was reported; but for biases that went into packed weights, whose tensors get other numbers."""
    if convert(source, {**RECIPE, "bias_bits": 16}, output=smart, overwrite=True).packed:
        expand(smart, source.with_name("plain.tflite"), overwrite=True)
    report = convert(source, RECIPE, output=smart, overwrite=True)
    if not report.packed:
        assert differences(original.schema, Model.read(smart).schema) == []
        return
    expand(smart, source.with_name("plain.tflite"), overwrite=True)
    again = Model.read(source.with_name("plain.tflite"))
    if any(tensor.type == schema.TensorType.FLOAT16 for graph in original.schema.subgraphs for tensor in graph.tensors):
        return  # comes back as float32, without its DEQUANTIZE
    worst = max(row.relative_error for row in report.packed)
    slimmed(original), slimmed(again)
    for before, after in zip(original.schema.buffers, again.schema.buffers):
        if before.data is not None and after.data is not None and not np.array_equal(before.data, after.data):
            values, decoded = (np.frombuffer(buffer.data, np.float32).astype(np.float64) for buffer in (before, after))
            assert np.sum(np.square(values - decoded)) <= np.square(1.001 * worst) * np.sum(np.square(values))
            after.data = before.data
    for model in (original, again):
        _drop_what_says_nothing(model)
    found = differences(original.schema, again.schema)
    assert found == [], found


def _drop_what_says_nothing(model: Model) -> None:
    """The order of the operator codes, a builtin one's custom name, a constant's free dimensions, an absent last input, and whether an empty vector is there."""
    codes = [(model.op_number(op), model.op_name(op), model.op_version(op)) for graph in model.schema.subgraphs for op in graph.operators or ()]
    for graph in model.schema.subgraphs:
        for op in graph.operators or ():
            if isinstance(op.builtinOptions, schema.DepthwiseConv2DOptionsT):
                op.builtinOptions.depthMultiplier = 0  # the runtime goes by the shapes
            op.opcodeIndex = codes.pop(0)
            op.inputs = op.inputs if op.inputs is None or np.size(op.inputs) == 0 or op.inputs[-1] >= 0 else op.inputs[:-1]
        for tensor in graph.tensors:
            tensor.shapeSignature = None if model.has_data(tensor) else tensor.shapeSignature
            for field in ("scale", "zeroPoint") if tensor.quantization else ():
                if np.size(getattr(tensor.quantization, field) if getattr(tensor.quantization, field) is not None else ()) == 0:
                    setattr(tensor.quantization, field, None)
    model.schema.operatorCodes = None
