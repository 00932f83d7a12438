"""Shapes that are packed while the model runs: which become constants, and that the model computes the same for every batch."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tests.converter.hand_built import Graph, differences, model_tree, packed
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.passes import reshape


def chain(last=(6,), *, from_input=1, shown=False, read_twice=False):
    """x (batch, 2, 3) -> RESHAPE to (batch, *last), where `batch` is read from x `from_input` times."""
    tree = model_tree()
    graph = Graph(tree)
    x, y = graph.tensor("x", (1, 2, 3)), graph.tensor("y", (1, *last))
    whole, batch, target = graph.tensor("shape", (3,), "int32"), graph.tensor("batch", (), "int32"), graph.tensor("target", (from_input + len(last),), "int32")
    graph.op("SHAPE", [x], [whole], schema.ShapeOptionsT(outType=schema.TensorType.INT32))
    slices = [graph.constant(name, np.array([value], np.int32)) for name, value in (("begin", 0), ("end", 1), ("strides", 1))]
    graph.op("STRIDED_SLICE", [whole, *slices], [batch], schema.StridedSliceOptionsT(shrinkAxisMask=1))
    sizes = [graph.constant(f"size_{i}", np.array(size, np.int32)) for i, size in enumerate(last)]
    graph.op("PACK", [*[batch] * from_input, *sizes], [target], schema.PackOptionsT(valuesCount=from_input + len(last)))
    graph.op("RESHAPE", [x, target], [y], schema.ReshapeOptionsT())
    outputs = [y, target] if shown else [y]
    if read_twice:
        outputs.append(graph.tensor("again", (1, 3), "int32"))
        graph.op("RESHAPE", [whole, graph.constant("row", np.array([1, 3], np.int32))], [outputs[-1]], schema.ReshapeOptionsT())
    graph.finish([x], outputs)
    return Model.read(packed(tree))


def run(model, batch):
    interpreter = Interpreter(model_content=packed(model.schema))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (batch, 2, 3))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 3))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def names(model):
    return [model.op_name(op) for op in model.schema.subgraphs[0].operators]


@pytest.mark.parametrize("last", [(6,), (1, 3, 2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_becomes_what_is_left(last, batch):
    model = chain(last)
    expected = run(model, batch)
    assert reshape.apply(model, model.schema.subgraphs[0]) == 3 and names(model) == ["RESHAPE"]
    model.check()
    np.testing.assert_array_equal(run(model, batch)[0], expected[0])


def test_what_others_read_stays():
    model = chain(read_twice=True)
    expected = run(model, 2)
    assert reshape.apply(model, model.schema.subgraphs[0]) == 2 and names(model) == ["SHAPE", "RESHAPE", "RESHAPE"]
    for got, value in zip(run(model, 2), expected):
        np.testing.assert_array_equal(got, value)


@pytest.mark.parametrize("arguments", [{"last": (0, 6)}, {"last": (-1,)}, {"last": (6,), "from_input": 2}, {"shown": True}])
def test_left_alone(arguments):
    model, same = chain(**arguments), chain(**arguments)
    assert reshape.apply(model, model.schema.subgraphs[0]) == 0
    assert differences(model.schema, same.schema) == []
