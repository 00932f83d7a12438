"""Biases of our operators in float16: where they become that, and where they stay."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import Graph, model_tree
from tests.converter.test_passes import RECIPE, assert_same, converted, weights
from tflite_smart.converter.model_editor import Model


def bias_tree(bias: np.ndarray, shared_with_builtin: bool) -> schema.ModelT:
    """A dense layer, and an ADD that reads the same bias."""
    tree = model_tree()
    graph = Graph(tree)
    x, y, z = graph.tensor("x", (1, 64)), graph.tensor("y", (1, 48)), graph.tensor("z", (1, 48))
    b = graph.constant("bias", bias)
    graph.op("FULLY_CONNECTED", [x, graph.constant("w", weights(48, 64)), b], [y], schema.FullyConnectedOptionsT())
    graph.op("ADD", [y, b if shared_with_builtin else y], [z], schema.AddOptionsT())
    graph.finish([x], [z])
    return tree


def stored_bias(model: Model) -> np.ndarray:
    subgraph = model.schema.subgraphs[0]
    return model.values(subgraph.tensors[int(subgraph.operators[0].inputs[2])])


def test_a_bias_becomes_float16_and_float32_again(tmp_path, delegate):
    bias = weights(48, scale=1)
    _, model, smart, plain = converted(bias_tree(bias, False), tmp_path)
    np.testing.assert_array_equal(stored_bias(model), bias.astype(np.float16), strict=True)
    np.testing.assert_array_equal(stored_bias(Model.read(plain)), bias.astype(np.float16).astype(np.float32), strict=True)
    assert_same(smart, plain, 64)


@pytest.mark.parametrize(("worst", "shared", "recipe"), [(65600, False, {}), (np.nan, False, {}), (1, True, {}), (1, False, {"bias_bits": 32})])
def test_a_bias_that_stays(tmp_path, worst, shared, recipe):
    """Too large for float16, no number, read by an operator that is not ours, or wanted as it is."""
    bias = weights(48, scale=1)
    bias[3] = worst
    _, model, _, plain = converted(bias_tree(bias, shared), tmp_path, {**RECIPE, **recipe})
    np.testing.assert_array_equal(stored_bias(model), bias, strict=True)
    np.testing.assert_array_equal(stored_bias(Model.read(plain)), bias, strict=True)
