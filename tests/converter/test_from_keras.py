"""Keras models of both kinds, their files and SavedModels, to smart .tflite. One small model for each way that TensorFlow's converter can take."""

import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as PlainInterpreter

from tflite_smart import Interpreter
from tflite_smart.converter import from_keras
from tflite_smart.converter.convert import convert
from tflite_smart.converter.errors import MissingDependencyError, ModelFormatError, UnsupportedModelError
from tflite_smart.converter.expand import expand

SEED = 23
RECIPE = {"min_weight_elements": 256}


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="TensorFlow is needed to read Keras models")


@pytest.fixture(scope="module")
def keras(tf):
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def tf_keras(tf):
    return pytest.importorskip("tf_keras")


def image_model(keras):
    layers = keras.layers
    keras.utils.set_random_seed(SEED)
    return keras.Sequential([
        keras.Input((12, 12, 3), name="image"), layers.Conv2D(32, 3, activation="relu"), layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Conv2DTranspose(16, 3, strides=2), layers.Flatten(), layers.Dense(10),
    ])  # fmt: skip


def text_model(keras, cell="LSTM"):
    layers = keras.layers
    keras.utils.set_random_seed(SEED)
    return keras.Sequential([keras.Input((10,), name="tokens"), layers.Embedding(100, 16), getattr(layers, cell)(24), layers.Dense(3)])


def outputs(cls, path, x):
    interpreter = cls(model_path=str(path))
    detail = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(detail["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], x.astype(detail["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def check_conversion(source, model, x, tmp_path, capfd=None):
    """Converts, runs, and compares with the expanded model and with Keras itself."""
    smart, plain = tmp_path / "smart.tflite", tmp_path / "expanded.tflite"
    report = convert(source, RECIPE, output=smart)
    if capfd is not None:
        heard = capfd.readouterr()
        assert heard.out == "" and heard.err == ""
    expand(smart, plain)
    smart_y, plain_y, y = outputs(Interpreter, smart, x), outputs(PlainInterpreter, plain, x), np.asarray(model(x))
    # Sums of at most 11,000 products (the Dense layer), some layers behind one another; 64 units in the last place leave room for all of them.
    np.testing.assert_allclose(smart_y, plain_y, rtol=0, atol=64 * 2.0**-23 * max(1.0, float(np.abs(y).max())))
    assert np.linalg.norm(smart_y - y) < 0.25 * np.linalg.norm(y)
    return report


def images(count=3):
    return np.random.default_rng(SEED).normal(size=(count, 12, 12, 3)).astype(np.float32)


def tokens():
    return np.random.default_rng(SEED).integers(0, 100, (1, 10)).astype(np.float32)


@pytest.mark.parametrize("kind", ["object", ".keras", ".h5", "SavedModel"])
def test_keras_3(keras, tmp_path, kind, capfd):
    model = source = image_model(keras)
    if kind == "SavedModel":
        source = tmp_path / "saved"
        model.export(source, verbose=False)
    elif kind != "object":
        source = tmp_path / f"model{kind}"
        model.save(source)
    capfd.readouterr()
    report = check_conversion(source, model, images(), tmp_path, capfd)
    assert {row.runs_as for row in report.packed} == {"Conv2D", "DepthwiseConv2D", "Expand + TRANSPOSE_CONV", "FullyConnected"} and report.notes == []


@pytest.mark.parametrize("kind", ["object", ".h5"])
def test_tf_keras(tf_keras, tmp_path, kind):
    model = source = image_model(tf_keras)
    if kind != "object":
        source = tmp_path / f"model{kind}"
        model.save(source)
    report = check_conversion(source, model, images(), tmp_path)
    assert len(report.packed) == 4


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_loops_get_batch_size_1_rather_than_flex(keras, tmp_path, cell):
    model = text_model(keras, cell)
    report = check_conversion(model, model, tokens(), tmp_path)
    assert len(report.notes) == 1 and "batch size fixed to 1" in report.notes[0]
    assert {"Gather", "FullyConnected"} <= {row.runs_as for row in report.packed}


def test_tf_keras_lstm_becomes_the_fused_operator(tf_keras, tmp_path):
    model = text_model(tf_keras)
    report = check_conversion(model, model, tokens(), tmp_path)
    assert "Expand + UNIDIRECTIONAL_SEQUENCE_LSTM" in {row.runs_as for row in report.packed}


def test_layers_of_a_nested_model_are_reported_under_their_path(keras):
    inner = keras.Sequential([keras.Input((8, 8, 16)), keras.layers.Conv2D(32, 3, name="deep")], name="block")
    model = keras.Sequential([keras.Input((8, 8, 16)), inner, keras.layers.Flatten(), keras.layers.Dense(4, name="head")], name="net")
    layers = [row.layer for row in convert(model, RECIPE).packed]
    assert len(layers) == 2 and "block" in layers[0] and "deep" in layers[0] and "head" in layers[1]


def test_what_tflite_has_no_operator_for_needs_flex_and_says_so(keras, tf, tmp_path):
    class Unusual(keras.layers.Layer):
        def call(self, x):
            return tf.linalg.det(tf.reshape(x, (-1, 8, 8)))

    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(64), Unusual()])
    report = convert(model, RECIPE, output=tmp_path / "a.tflite")
    assert "SELECT_TF_OPS" in report.notes[0] and len(report.packed) == 1


@pytest.mark.parametrize("name", ["mlperf_tiny_ad01.h5", "mlperf_tiny_pretrainedResnet.h5", "mlperf_tiny_str_ww_ref_model.h5"])
def test_old_h5_files(keras, tmp_path, model_path, name):
    report = convert(model_path(name), RECIPE, output=tmp_path / "a.tflite")
    assert report.packed and report.ratio > 3 and outputs(Interpreter, tmp_path / "a.tflite", _zeros(tmp_path / "a.tflite")).size


def _zeros(path):
    return np.zeros(Interpreter(model_path=str(path)).get_input_details()[0]["shape"], np.float32)


def test_bad_input(keras, tmp_path):
    (tmp_path / "bad.keras").write_bytes(b"no archive" * 10)
    (tmp_path / "folder").mkdir()
    for source, error, words in [
        (tmp_path / "none.keras", ModelFormatError, "path must exist"),
        (tmp_path / "bad.keras", ModelFormatError, "must be a Keras archive or HDF5"),
        (tmp_path / "folder", ModelFormatError, "SavedModel"),
        (object(), UnsupportedModelError, "object"),
        (keras.Sequential([keras.layers.Dense(3)]), UnsupportedModelError, "must be built"),
    ]:
        with pytest.raises(error, match=words):
            convert(source, RECIPE, output=tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()


def test_without_tensorflow_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(from_keras._HDF5_MAGIC)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install tflite_smart\[keras\]"):
        convert(tmp_path / "a.h5")


def test_mixed_precision_is_for_training_only():
    """A mixed_float16 model converts to float32 builtin operators, and keeps its own policy."""
    import keras

    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential([keras.Input((12, 12, 3)), keras.layers.Conv2D(32, 3, dtype=policy), keras.layers.Flatten(), keras.layers.Dense(10, dtype=policy)])
    report = convert(model, {"error_budget": 0.01})
    assert len(report.packed) == 2 and not report.notes
    assert [layer.compute_dtype for layer in model.layers if layer.weights] == ["float16", "float16"]
