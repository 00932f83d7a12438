"""A trained full-integer model: recompressed, it computes the same bytes, and comes back as it was."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter as PlainInterpreter
from ai_edge_litert.interpreter import OpResolverType

import tflite_smart as ts
from tests.converter.hand_built import Graph, differences, model_tree, slimmed, write
from tflite_smart.converter.expand import expand
from tflite_smart.converter.model_editor import Model

SEED = 23


def images(count: int) -> np.ndarray:
    """Smooth coloured shapes, so that more than one class gets a probability."""
    rng = np.random.default_rng(SEED)
    x = np.linspace(0, 6, 224)
    waves = rng.normal(size=(count, 4, 2, 3))
    pictures = sum(np.sin(w[:, None, None, 0] * x[None, :, None, None] + w[:, None, None, 1] * x[None, None, :, None] + i) for i, w in enumerate(np.moveaxis(waves, 1, 0)))
    return np.clip(pictures * 50 + 128, 0, 255).astype(np.uint8)


def outputs(interpreter, samples):
    interpreter.allocate_tensors()
    results = []
    for sample in samples:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.stack(results)


# Layers that would save little stay as they are, unless size is all that counts.
@pytest.mark.parametrize("recipe, runs_as, size", [("recompress_int8", {"Conv2D"}, 0.87), ({"integer_only": True, "global_config": {"objective": "size"}}, {"Conv2D", "DepthwiseConv2D"}, 0.85)])
def test_mobilenet_v2(tmp_path, model_path, recipe, runs_as, size):
    original = model_path("mobilenet_v2_imagenet_int8.tflite")
    smart, plain = tmp_path / "smart.tflite", tmp_path / "plain.tflite"
    report = ts.convert(original, recipe=recipe, output=smart)
    assert {row.runs_as for row in report.packed} == runs_as  # nothing needs an Expand
    assert report.file_bytes_after < size * report.file_bytes_before
    assert any("saves so little" in row.skipped for row in report.skipped) == (recipe == "recompress_int8")
    expand(smart, plain)
    expected = Model.read(original)
    assert differences(slimmed(Model.read(plain)), slimmed(expected)) == []

    # The operators that are not ours on LiteRT's reference kernels in both.
    exact = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF}
    samples = images(3)
    expected = outputs(PlainInterpreter(model_path=str(original), **exact), samples)
    assert len(np.unique(expected)) > 8
    np.testing.assert_array_equal(outputs(ts.Interpreter(model_path=str(smart), num_threads=2, **exact), samples), expected)


def dense_layers(rows: int, width: int):
    """Two dense layers in integers."""
    rng, tree = np.random.default_rng(4), model_tree()
    graph = Graph(tree)
    x = before = graph.tensor("x", (rows, width), "int8", quantization=([0.05], [3], 0))
    for name in ("first", "second"):
        w = graph.constant(f"{name}/w", np.clip(np.round(rng.laplace(0, 14, (width, width))), -127, 127).astype(np.int8), ([0.01], [0], 0))
        y = graph.tensor(name, (rows, width), "int8", quantization=([0.5], [-5], 0))
        graph.op("FULLY_CONNECTED", [before, w, -1], [y], schema.FullyConnectedOptionsT())
        before = y
    graph.finish([x], [before])
    return tree


# Of a million weights and more that are used once each, decoding is all that a run would be.
@pytest.mark.parametrize("rows, width, objective, packed", [(1, 768, None, 0), (1, 768, "size", 2), (24, 768, None, 2), (1, 640, None, 2)])
def test_dense_layers_that_would_be_slow_stay_as_they_are(tmp_path, rows, width, objective, packed):
    source = write(dense_layers(rows, width), tmp_path / "dense.tflite")
    report = ts.convert(source, {"global_config": {"objective": objective}}, output=tmp_path / "smart.tflite")
    assert len(report.packed) == packed and all("uses each weight once" in row.skipped for row in report.skipped)
