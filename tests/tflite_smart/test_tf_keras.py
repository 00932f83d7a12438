"""tf_keras models go through tfmot, without callbacks and with the pattern that tfmot refuses."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is needed to train")
tf_keras = pytest.importorskip("tf_keras")
tfmot = pytest.importorskip("tensorflow_model_optimization")

import tflite_smart as ts
from tests.tflite_smart.integers import run_integers
from tflite_smart.methods import Prune, Quantize

SEED = 9


def model_with_relu_before_batch_normalization():
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(SEED)
    return tf_keras.Sequential([tf_keras.Input((8, 8, 3)), layers.Conv2D(24, 3, activation="relu", name="conv"), layers.BatchNormalization(), layers.Flatten(), layers.Dense(10, name="head")])


def data():
    rng = np.random.default_rng(SEED)
    return rng.random((64, 8, 8, 3), np.float32), rng.random((64, 10), np.float32)


def trained(model, recipe):
    x, y = data()
    wrapped = ts.smart_wrap(model, recipe)
    wrapped.compile("adam", "mse")
    wrapped.fit(x, y, batch_size=16, epochs=2, verbose=0)
    return wrapped


def test_pruning_needs_no_callback():
    model, (x, _) = model_with_relu_before_batch_normalization(), data()
    before = model(x).numpy()
    wrapped = trained(model, ts.WrapConfig(Prune(tfmot.sparsity.keras.ConstantSparsity(0.75, 0, frequency=1)), op_name_configs={"^conv/": None}))
    assert np.array_equal(model(x), before)
    plain = ts.strip(wrapped)
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in model.layers]
    assert abs(np.mean(plain.get_layer("head").kernel.numpy() == 0) - 0.75) < 0.01 and np.all(plain.get_layer("conv").kernel.numpy() != 0)
    report = ts.convert(wrapped, {"error_budget": 0.01})
    assert report.packed[-1].bits_per_weight < 3


def test_quantization_takes_the_pattern_that_tfmot_refuses(tmp_path):
    model, (x, _) = model_with_relu_before_batch_normalization(), data()
    with pytest.raises(RuntimeError, match="not supported"):
        tfmot.quantization.keras.quantize_model(model_with_relu_before_batch_normalization())
    wrapped = trained(model, ts.WrapConfig(Quantize(8), activation_bits=8))
    report = ts.convert(wrapped, {"min_weight_elements": 64}, output=tmp_path / "model.tflite")
    assert {row.op_type: row.dtype for row in report.rows if row.op_type != "ADD" and row.op_type != "MUL"} == {"CONV_2D": "int8", "FULLY_CONNECTED": "int8"}
    outputs, scale, zero_point = run_integers(tmp_path / "model.tflite", x)
    # tfmot rounds a float32 sum where TFLite rounds an int32 one: a step here and there.
    assert np.abs((outputs - zero_point) * scale - wrapped(x)).max() <= 3 * scale


@pytest.mark.parametrize(("recipe", "words"), [(Quantize(4), "8 bits"), ([Prune(0.5), Quantize(8)], "must be one")])
def test_what_tfmot_lacks_is_named(recipe, words):
    with pytest.raises(ts.TFLiteSmartError, match=words):
        ts.smart_wrap(model_with_relu_before_batch_normalization(), recipe)
