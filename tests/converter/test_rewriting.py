"""Random models through the reader, the converter and back: valid and equal, or a named error."""

import functools
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter as PlainInterpreter
from hypothesis import HealthCheck, given, seed, settings, strategies as st

from tests.converter import rewriting
from tests.converter.hand_built import Graph, model_tree, packed
from tests.mutations import mutated
from tflite_smart import Interpreter
from tflite_smart.converter.convert import convert
from tflite_smart.converter.expand import expand
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.rewrite import is_smart

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@functools.cache
def originals() -> list[bytes]:
    """No fixture: hypothesis would print them."""
    with tempfile.TemporaryDirectory() as folder:
        return rewriting.plain_models() + rewriting.smart_models(Path(folder))


def test_the_originals_come_through(folder):
    assert [rewriting.examine(content, folder) for content in originals()] == ["valid"] * 6


@seed(2101)
@settings(max_examples=60, **QUIET)
@given(st.integers(0, 5), st.integers(0, 1 << 32))
def test_damaged_models(folder, which, choices):
    """One to four changes anywhere: in packed weights, options, shapes, types, connections, operators, graphs, bytes."""
    rewriting.examine(mutated(originals()[which], random.Random(choices), builtin=True), folder)


@st.composite
def layers(draw) -> bytes:
    """A chain of one to four layers that fit each other."""
    rng, tree = np.random.default_rng(draw(st.integers(0, 1 << 32))), model_tree()
    graph = Graph(tree)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 40)))
    x = last = graph.tensor("x", shape)
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL"]))
        size, channels = draw(st.sampled_from([(1, 1), (3, 3), (2, 5)])), draw(st.integers(1, 70))
        channels = shape[3] if kind in ("DEPTHWISE_CONV_2D", "MUL") else channels
        activation = draw(st.sampled_from([0, 1, 3]))
        weight_shape, options = {
            "CONV_2D": ((channels, *size, shape[3]), schema.Conv2DOptionsT(schema.Padding.SAME, 1, 1, activation)),
            "DEPTHWISE_CONV_2D": ((1, *size, channels), schema.DepthwiseConv2DOptionsT(schema.Padding.SAME, 1, 1, 1, activation)),
            "FULLY_CONNECTED": ((channels, shape[3]), schema.FullyConnectedOptionsT(activation, keepNumDims=True)),
            "MUL": ((1, 1, 1, channels), schema.MulOptionsT(activation)),
        }[kind]
        shape = (*shape[:3], channels)
        weight = graph.constant(f"w{number}", rng.laplace(0, 0.3, weight_shape).astype(np.float32))
        bias = [] if kind == "MUL" else [graph.constant(f"b{number}", rng.normal(size=channels).astype(np.float32))]
        before, last = last, graph.tensor(f"y{number}", shape)
        graph.op(kind, [before, weight, *bias], [last], options)
    graph.finish([x], [last])
    return packed(tree)


def output_of(interpreter) -> np.ndarray:
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.random.default_rng(1).normal(size=detail["shape"]).astype(np.float32))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@seed(2101)
@settings(max_examples=15, **QUIET)
@given(layers())
def test_valid_models(folder, content):
    """Each comes through, and the smart model computes what its expanded form computes on LiteRT's kernels: the same products, in another order."""
    assert rewriting.examine(content, folder) == "valid"
    smart, plain = folder / "smart.tflite", folder / "plain.tflite"
    convert(content, rewriting.RECIPE, output=smart, overwrite=True)
    if is_smart(Model.read(smart)):
        expand(smart, plain, overwrite=True)
        expected = output_of(PlainInterpreter(model_path=str(plain)))
        np.testing.assert_allclose(output_of(Interpreter(model_path=str(smart))), expected, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
