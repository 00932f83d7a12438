"""Dynamic-range models, which TensorFlow's converter makes by default when it quantizes: their int8 weights are packed as they are, and computed with as LiteRT does."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as PlainInterpreter
from ai_edge_litert.interpreter import OpResolverType

import tflite_smart as ts
from tflite_smart.converter.probe import output_snr_db
from tflite_smart.delegates import native

SEED = 29
NUM_INPUTS = 4


@pytest.fixture(scope="module")
def quantized() -> bytes:
    """Convolutions, strided and 1x1, and dense layers."""
    tf = pytest.importorskip("tensorflow", reason="its converter quantizes")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, 32)), layers.Conv2D(96, 3, strides=2, padding="same", activation="relu"), layers.Conv2D(150, 1), layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(70),
    ])  # fmt: skip
    model.set_weights([np.random.default_rng(SEED).laplace(0, 0.1, w.shape).astype(np.float32) for w in model.get_weights()])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


def outputs(interpreter) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(SEED)
    interpreter.allocate_tensors()
    results = []
    for _ in range(NUM_INPUTS):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rng.normal(size=(1, 8, 8, 32)).astype(np.float32))
        interpreter.invoke()
        results.append([interpreter.get_tensor(interpreter.get_output_details()[0]["index"])])
    return results


def test_answers_are_those_of_litert(quantized, tmp_path):
    """The inputs of every layer become the same bytes as in LiteRT's own kernels, but for one in a million that lies on the edge between two, as sums differ in the last bits of a float.
    XNNPACK quantizes some layers by pixel, which gives other bytes: 8 bits of the range leave some 40 dB."""
    report = ts.convert(quantized, {"bias_bits": 32}, output=tmp_path / "smart.tflite")
    assert {(row.runs_as, row.dtype) for row in report.packed} == {("Conv2D", "int8"), ("FullyConnected", "int8")}
    assert report.file_bytes_after < 0.95 * len(quantized)
    own = outputs(PlainInterpreter(model_content=quantized, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES))
    xnnpack = outputs(PlainInterpreter(model_content=quantized))
    ours, in_floats = (outputs(ts.Interpreter(model_path=str(tmp_path / "smart.tflite"), delegate_options=options)) for options in ({}, {"compute": "f32"}))
    assert output_snr_db(own, ours) > 60
    assert output_snr_db(own, xnnpack) > 30 and output_snr_db(xnnpack, ours) > 30
    assert 30 < output_snr_db(own, in_floats) < 60  # another arithmetic


def test_every_instruction_set_answers_the_same(quantized, tmp_path):
    ts.convert(quantized, output=tmp_path / "smart.tflite")
    answers = {}
    for isa in native.isa_names():
        native.force_isa(isa)
        try:
            answers[isa] = outputs(ts.Interpreter(model_path=str(tmp_path / "smart.tflite")))
        finally:
            native.force_isa(None)
    for isa, answer in answers.items():
        np.testing.assert_array_equal(answer, answers["scalar"], err_msg=isa)
