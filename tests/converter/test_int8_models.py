"""A trained full-integer model: recompressed, it computes the same bytes, and comes back as it was."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as PlainInterpreter
from ai_edge_litert.interpreter import OpResolverType

import tflite_smart as ts
from tests.converter.hand_built import differences, slimmed
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
