"""Biases of our operators in their packed weights: where they go there, how fine they are, and where they stay."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import Graph, model_tree
from tests.converter.test_passes import RECIPE, assert_same, converted, weights
from tflite_smart.converter.channel_codes import Bias
from tflite_smart.converter.format import PackedWeight
from tflite_smart.converter.model_editor import Model, indices
from tflite_smart.converter.passes import packed_bias


def bias_tree(bias: np.ndarray, shared_with_builtin: bool = False, second: np.ndarray | None = None) -> schema.ModelT:
    """A dense layer, and an ADD that may read the same bias; a second layer that shares the weights and has a bias of its own."""
    tree = model_tree()
    graph = Graph(tree)
    x, y, z = graph.tensor("x", (1, 64)), graph.tensor("y", (1, 48)), graph.tensor("z", (1, 48))
    w, b = graph.constant("w", weights(48, 64)), graph.constant("bias", bias)
    graph.op("FULLY_CONNECTED", [x, w, b], [y], schema.FullyConnectedOptionsT())
    other = y
    if second is not None:
        other = graph.tensor("other", (1, 48))
        graph.op("FULLY_CONNECTED", [x, w, b if second is bias else graph.constant("second", second)], [other], schema.FullyConnectedOptionsT())
    graph.op("ADD", [y, b if shared_with_builtin else other], [z], schema.AddOptionsT())
    graph.finish([x], [z])
    return tree


def inputs_of(model: Model, number: int = 0) -> list[int]:
    return indices(model.schema.subgraphs[0].operators[number].inputs)


def stored_bias(model: Model) -> Bias | None:
    weight = model.schema.subgraphs[0].tensors[inputs_of(model)[1]]
    return PackedWeight.from_bytes(model.values(weight).tobytes()).bias


def float_bias(model: Model) -> np.ndarray:
    return model.values(model.schema.subgraphs[0].tensors[inputs_of(model)[2]])


@pytest.mark.parametrize(("error", "bits"), [(0.2, range(8, 11)), (0.02, range(11, 14))])
@pytest.mark.parametrize("shared", [False, True])
def test_a_bias_goes_into_the_weight_as_fine_as_that_and_comes_back(tmp_path, delegate, error, bits, shared):
    bias = weights(48, scale=1)
    recipe = {**RECIPE, "global_config": {"relative_error": error}}
    report, model, smart, plain = converted(bias_tree(bias, shared, bias), tmp_path, recipe)
    stored = stored_bias(model)
    assert stored.bits in bits and stored.step <= packed_bias.step(bias, 64, report.packed[0].relative_error) <= 1.01 * stored.step
    assert np.abs(stored.values() - bias).max() <= stored.step / 2 * (1 + 1e-6)
    assert inputs_of(model)[2:] == inputs_of(model, 1)[2:] == [] and len(model.schema.subgraphs[0].tensors) == 4 + 1 + shared
    np.testing.assert_array_equal(float_bias(Model.read(plain)), stored.values(), strict=True)
    assert_same(smart, plain, 64)


def test_a_bias_of_zeros_takes_a_bit_a_channel_and_comes_back(tmp_path, delegate):
    """LiteRT's own convolutions need one."""
    _, model, smart, plain = converted(bias_tree(np.zeros(48, np.float32)), tmp_path)
    assert stored_bias(model).bits == 1 and inputs_of(model)[2:] == [] and len(model.schema.subgraphs[0].tensors) == 4
    np.testing.assert_array_equal(float_bias(Model.read(plain)), np.zeros(48, np.float32), strict=True)
    assert_same(smart, plain, 64)


@pytest.mark.parametrize(("worst", "recipe"), [(1e9, {}), (np.nan, {}), (1, {"bias_bits": 32})])
def test_a_bias_that_stays(tmp_path, worst, recipe):
    """Too large for 16 bits, no number, or wanted as it is."""
    bias = np.full(48, 1e-3, np.float32)
    bias[3] = worst
    _, model, _, plain = converted(bias_tree(bias), tmp_path, {**RECIPE, **recipe})
    np.testing.assert_array_equal(float_bias(model), bias, strict=True)
    np.testing.assert_array_equal(float_bias(Model.read(plain)), bias, strict=True)


def test_layers_that_share_a_weight_and_not_the_bias_keep_theirs(tmp_path, delegate):
    _, model, smart, plain = converted(bias_tree(weights(48, scale=1), False, weights(48, scale=2)), tmp_path)
    assert stored_bias(model) is None and [len(inputs_of(model, number)) for number in (0, 1)] == [3, 3]
    assert_same(smart, plain, 64)
