"""Biases behind the RESHAPE to heads: which become the dense layer's own."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import Graph, model_tree
from tests.converter.test_passes import RECIPE, Activation, assert_same, converted, ops, weights

HEADS = (6, 8)


def heads_tree(bias_shape=HEADS, *, own_bias=False, activation=Activation.NONE, added_activation=Activation.NONE, turned=(-1, *HEADS), shown=False, bias_first=False):
    """x (2, 64) -> 48 columns -> (2, 6, 8) -> + bias."""
    tree = model_tree()
    graph = Graph(tree)
    x, product, heads, y = graph.tensor("x", (2, 64)), graph.tensor("product", (2, 48)), graph.tensor("heads", (2, *HEADS)), graph.tensor("y", (2, *HEADS))
    own = graph.constant("own", weights(48)) if own_bias else -1
    graph.op("FULLY_CONNECTED", [x, graph.constant("w", weights(48, 64)), own], [product], schema.FullyConnectedOptionsT(fusedActivationFunction=activation))
    graph.op("RESHAPE", [product, graph.constant("target", np.array(turned, np.int32))], [heads], schema.ReshapeOptionsT())
    inputs = [heads, graph.constant("bias", weights(*bias_shape, scale=1))]
    graph.op("ADD", inputs[::-1] if bias_first else inputs, [y], schema.AddOptionsT(fusedActivationFunction=added_activation))
    graph.finish([x], [y, heads] if shown else [y])
    return tree


@pytest.mark.parametrize("bias_first", [False, True])
def test_becomes_the_layers_own(tmp_path, delegate, bias_first):
    _, smart, smart_path, plain_path = converted(heads_tree(bias_first=bias_first), tmp_path, {**RECIPE, "bias_bits": 32})
    assert ops(smart) == ["TFLiteSmart.FullyConnected", "RESHAPE"]
    subgraph = smart.schema.subgraphs[0]
    np.testing.assert_array_equal(smart.values(subgraph.tensors[subgraph.operators[0].inputs[2]]), weights(*HEADS, scale=1).reshape(-1))
    assert_same(smart_path, plain_path, 64)


@pytest.mark.parametrize("arguments", [
    {"own_bias": True}, {"activation": Activation.RELU}, {"added_activation": Activation.RELU}, {"shown": True}, {"bias_shape": (8,)}, {"bias_shape": (6, 1)}, {"bias_shape": (2, 6, 8)},
])  # fmt: skip
def test_left_alone(tmp_path, delegate, arguments):
    """It has a bias, something stands between, others read the sum of products, or the constant has other than one number per channel."""
    _, smart, smart_path, plain_path = converted(heads_tree(**arguments), tmp_path)
    assert "ADD" in ops(smart)
    assert_same(smart_path, plain_path, 64)
