"""Builds .tflite files by hand, as object trees: what the tests of the converter need and no converter writes. And compares such trees."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter import slim
from tflite_smart.converter.model_editor import Model

TYPES = {
    "float32": schema.TensorType.FLOAT32, "float16": schema.TensorType.FLOAT16, "int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16, "int32": schema.TensorType.INT32, "int64": schema.TensorType.INT64, "bool": schema.TensorType.BOOL,
}  # fmt: skip


class Graph:
    """One subgraph of a `ModelT` in the making.

    Example:
        tree = model_tree()
        graph = Graph(tree)
        x, y = graph.tensor("x", (1, 4)), graph.tensor("y", (1, 3))
        graph.op("FULLY_CONNECTED", [x, graph.constant("w", np.zeros((3, 4), np.float32)), -1], [y], schema.FullyConnectedOptionsT())
        graph.finish([x], [y])
    """

    def __init__(self, tree: schema.ModelT, name: str = "main"):
        self.tree = tree
        self.subgraph = schema.SubGraphT(tensors=[], operators=[], name=name.encode())
        tree.subgraphs.append(self.subgraph)

    def tensor(self, name, shape, dtype="float32", buffer=0, quantization=None, **fields) -> int:
        """Adds a tensor, returns its index. `quantization` is (scales, zero points, axis)."""
        if quantization is not None:
            scales, zero_points, axis = quantization
            quantization = schema.QuantizationParametersT(scale=np.array(scales, np.float32), zeroPoint=np.array(zero_points, np.int64), quantizedDimension=axis)
        tensor = schema.TensorT(np.array(shape, np.int32), TYPES.get(dtype, dtype), buffer, name.encode(), quantization, hasRank=True, **fields)
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def buffer(self, data) -> int:
        self.tree.buffers.append(schema.BufferT(np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)))
        return len(self.tree.buffers) - 1

    def constant(self, name, values, quantization=None, **fields) -> int:
        return self.tensor(name, values.shape, values.dtype.name, self.buffer(values), quantization, **fields)

    def op(self, name, inputs, outputs, options=None, version=1, **fields) -> schema.OperatorT:
        """Adds an operator: a builtin by its name in the schema, anything else is a custom code."""
        number = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
        custom = name.encode() if number == schema.BuiltinOperator.CUSTOM else None
        codes = self.tree.operatorCodes
        found = [i for i, code in enumerate(codes) if (code.builtinCode, code.customCode, code.version) == (number, custom, version)]
        if not found:
            codes.append(schema.OperatorCodeT(min(number, 127), custom, version, number))
        kind = getattr(schema.BuiltinOptions, type(options).__name__[:-1]) if options is not None else 0
        op = schema.OperatorT(found[0] if found else len(codes) - 1, np.array(inputs, np.int32), np.array(outputs, np.int32), kind, options, **fields)
        self.subgraph.operators.append(op)
        return op

    def finish(self, inputs, outputs) -> None:
        self.subgraph.inputs, self.subgraph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)


def model_tree() -> schema.ModelT:
    return schema.ModelT(version=3, operatorCodes=[], subgraphs=[], description=b"made by hand", buffers=[schema.BufferT()], metadata=[])


def write(tree: schema.ModelT, path) -> str:
    """Writes with the writer under test; `test_model_editor` checks that writer against flatbuffers' own."""
    Model(tree).write(path, overwrite=True)
    return str(path)


def packed(tree: schema.ModelT) -> bytes:
    """Written by flatbuffers' own builder."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def slimmed(model: Model) -> schema.ModelT:
    """The tree without all that a conversion drops for good; expanding a model does not bring it back."""
    slim.drop_ballast(model)
    slim.share_empty_buffers(model)
    model.drop_unused_codes()
    return model.schema


def differences(a, b, path="model") -> list[str]:
    """Paths of all fields in which two object trees differ."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        same = a is not None and b is not None and np.asarray(a).shape == np.asarray(b).shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()  # NaN equals itself
        return [] if same else [path]
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return [f"{path}: {len(a)} and {len(b)} entries"]
        return [found for index, pair in enumerate(zip(a, b)) for found in differences(*pair, f"{path}[{index}]")]
    if hasattr(a, "__dict__") and hasattr(b, "__dict__"):
        if type(a) is not type(b) or vars(a).keys() != vars(b).keys():
            return [path]
        return [found for name in vars(a) for found in differences(getattr(a, name), getattr(b, name), f"{path}.{name}")]
    return [] if a == b else [path]


def fill(cls, counter: list[int], skip=()):
    """An object of a generated class with every plain field set to a different value that is not its default; lists and tables stay as they are."""
    value = cls()
    for name, default in vars(value).items():
        if name in skip or name.endswith("Type") or isinstance(default, (list, np.ndarray)) or default is None:
            continue
        counter[0] += 1
        setattr(value, name, (not default) if isinstance(default, bool) else type(default)(counter[0]))
    return value
