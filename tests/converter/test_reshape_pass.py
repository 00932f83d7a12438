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


def images(batch):
    return np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 3)


def run(model, x):
    interpreter = Interpreter(model_content=packed(model.schema))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def names(model):
    return [model.op_name(op) for op in model.schema.subgraphs[0].operators]


@pytest.mark.parametrize("last", [(6,), (1, 3, 2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_becomes_what_is_left(last, batch):
    model = chain(last)
    expected = run(model, images(batch))
    assert reshape.apply(model, model.schema.subgraphs[0]) == 3 and names(model) == ["RESHAPE"]
    model.check()
    np.testing.assert_array_equal(run(model, images(batch))[0], expected[0])


def dense_of_a_sequence(outer=(1, 128)):
    """What Keras' Dense becomes on a sequence: x (batch, 128, 8) -> RESHAPE to (batch * 128, 8) -> FULLY_CONNECTED -> RESHAPE to (batch, 128, 4)."""
    tree = model_tree()
    graph = Graph(tree)
    x, rows, made, y = graph.tensor("x", (*outer, 8)), graph.tensor("rows", (1, 1)), graph.tensor("made", (1, 4)), graph.tensor("y", (*outer, 4))
    tree.subgraphs[0].tensors[x].shapeSignature = np.array([-1, *outer[1:], 8], np.int32)
    whole, leading, last = graph.tensor("shape", (3,), "int32"), graph.tensor("leading", (2,), "int32"), graph.tensor("last", (1,), "int32")
    num_rows, num_columns = graph.tensor("num_rows", (), "int32"), graph.tensor("num_columns", (), "int32")
    flat, back = graph.tensor("flat", (2,), "int32"), graph.tensor("back", (3,), "int32")
    axis = graph.constant("axis", np.array([0], np.int32))
    graph.op("SHAPE", [x], [whole], schema.ShapeOptionsT(outType=schema.TensorType.INT32))
    graph.op("GATHER", [whole, graph.constant("first_two", np.array([0, 1], np.int32))], [leading], schema.GatherOptionsT())
    graph.op("REDUCE_PROD", [leading, axis], [num_rows], schema.ReducerOptionsT())
    graph.op("CONCATENATION", [leading, graph.constant("units", np.array([4], np.int32))], [back], schema.ConcatenationOptionsT())
    graph.op("GATHER", [whole, graph.constant("third", np.array([2], np.int32))], [last], schema.GatherOptionsT())
    graph.op("REDUCE_PROD", [last, axis], [num_columns], schema.ReducerOptionsT())
    graph.op("PACK", [num_rows, num_columns], [flat], schema.PackOptionsT(valuesCount=2))
    graph.op("RESHAPE", [x, flat], [rows], schema.ReshapeOptionsT())
    weight = graph.constant("weight", np.arange(32, dtype=np.float32).reshape(4, 8))
    graph.op("FULLY_CONNECTED", [rows, weight, -1], [made], schema.FullyConnectedOptionsT())
    graph.op("RESHAPE", [made, back], [y], schema.ReshapeOptionsT())
    graph.finish([x], [y])
    return Model.read(packed(tree))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_dense_layer_of_a_sequence(batch):
    model = dense_of_a_sequence()
    x = np.random.default_rng(1).normal(size=(batch, 128, 8)).astype(np.float32)
    expected = run(model, x)
    assert reshape.apply(model, model.schema.subgraphs[0]) == 7 and names(model) == ["RESHAPE", "FULLY_CONNECTED", "RESHAPE"]
    model.check()
    np.testing.assert_array_equal(run(model, x)[0], expected[0])
    targets = [model.schema.subgraphs[0].tensors[op.inputs[1]] for op in model.schema.subgraphs[0].operators if model.op_name(op) == "RESHAPE"]
    assert [model.values(target).tolist() for target in targets] == [[-1, 8], [-1, 128, 4]]


def test_what_others_read_stays():
    model = chain(read_twice=True)
    expected = run(model, images(2))
    assert reshape.apply(model, model.schema.subgraphs[0]) == 2 and names(model) == ["SHAPE", "RESHAPE", "RESHAPE"]
    for got, value in zip(run(model, images(2)), expected):
        np.testing.assert_array_equal(got, value)


@pytest.mark.parametrize("arguments", [{"last": (0, 6)}, {"last": (-1,)}, {"last": (6,), "from_input": 2}, {"shown": True}])
def test_left_alone(arguments):
    model, same = chain(**arguments), chain(**arguments)
    assert reshape.apply(model, model.schema.subgraphs[0]) == 0
    assert differences(model.schema, same.schema) == []
