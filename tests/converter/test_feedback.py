"""Rounding with feedback, and the layer statistics that it needs."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter import buckets, convert, feedback, layer_statistics
from tflite_smart.converter.calibration import samples
from tflite_smart.converter.errors import InputError

SEED = 3


def correlated_inputs(rows, k):
    rng = np.random.default_rng(SEED)
    return np.maximum(rng.standard_normal((rows, 8)) @ rng.standard_normal((8, k)) + 0.3 * rng.standard_normal((rows, k)), 0).astype(np.float32)


@pytest.mark.parametrize("midrise", [False, True])
def test_feedback_keeps_the_output_closer_than_rounding_and_balancing(midrise):
    """On correlated inputs, judged on other inputs of the same kind. The inputs have 8 directions, of which balancing serves one (their mean) and feedback all."""
    inputs = correlated_inputs(4000, 150)
    seen, unseen = inputs[:2000], inputs[2000:]
    weights = np.random.default_rng(SEED).normal(0, 0.05, (40, 150)).astype(np.float32)
    steps = buckets.bucket_steps(weights, 0.2)
    plain = buckets.to_buckets(weights, steps, midrise)
    balanced = plain.copy()
    buckets.balance(balanced, weights, steps, 1, midrise)
    fed = feedback.round_with_feedback(weights, steps, feedback.feedback_factor(seen.T @ seen / len(seen)), midrise)
    offset = 0.5 if midrise else 0.0
    error = [np.square(unseen @ (steps[:, None] * (ids + offset) - weights).T).mean() for ids in (plain, balanced, fed)]
    assert error[1] < 0.8 * error[0]
    assert error[2] < 0.25 * error[1]


def test_independent_inputs_leave_plain_rounding():
    """Where H is a multiple of the identity no other weight can make up for an error."""
    weights = np.random.default_rng(SEED).normal(0, 1, (5, 70)).astype(np.float32)
    steps = np.full(5, 0.3, np.float32)
    fed = feedback.round_with_feedback(weights, steps, feedback.feedback_factor(np.eye(70, dtype=np.float32)))
    assert np.array_equal(fed, buckets.to_buckets(weights, steps))


def test_channels_of_zeros_and_inputs_that_never_occur():
    weights = np.ones((3, 20), np.float32)
    weights[1] = 0
    steps = np.array([0.4, 0, 0.4], np.float32)
    ids = feedback.round_with_feedback(weights, steps, feedback.feedback_factor(np.zeros((20, 20), np.float32)))
    assert np.array_equal(ids[1], np.zeros(20)) and np.array_equal(ids[0], np.full(20, 2))


@pytest.mark.parametrize("padding", [schema.Padding.SAME, schema.Padding.VALID])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 1)])
def test_patches_times_filter_is_tensorflows_convolution(padding, stride, dilation):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow's convolution is the reference")
    rng = np.random.default_rng(SEED)
    x, filters = rng.standard_normal((2, 11, 9, 3)).astype(np.float32), rng.standard_normal((4, 3, 2, 3)).astype(np.float32)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = stride
    options.dilationHFactor = options.dilationWFactor = dilation
    options.padding = padding
    rows = layer_statistics.patches(x, filters.shape, options)
    ours = rows.reshape(*rows.shape[:3], -1) @ filters.reshape(4, -1).T
    name = "SAME" if padding == schema.Padding.SAME else "VALID"
    theirs = tf.nn.conv2d(x, filters.transpose(1, 2, 3, 0), stride, name, dilations=dilation).numpy()
    assert ours.shape == theirs.shape
    assert np.allclose(ours, theirs, atol=18 * 4e-7 * np.abs(theirs).max())  # 18 products each, summed in another order


@pytest.fixture(scope="module")
def small_model():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow builds the model")
    import keras

    keras.utils.set_random_seed(SEED)
    model = keras.Sequential([
        keras.Input((16, 16, 3)), keras.layers.Conv2D(24, 3, activation="relu"), keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.Flatten(), keras.layers.Dense(20),
    ])  # fmt: skip
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def test_calibration_makes_the_same_fidelity_smaller(small_model):
    rng = np.random.default_rng(SEED)
    images = np.clip(rng.standard_normal((96, 4, 4, 3)).repeat(4, 1).repeat(4, 2) * 0.3 + 0.5, 0, 1).astype(np.float32)
    plain, calibrated = convert.convert(small_model), convert.convert(small_model, calibration_data=images)
    assert calibrated.file_bytes_after < plain.file_bytes_after
    assert calibrated.output_snr_db > 23, "the target is 26 dB"


@pytest.mark.parametrize("data", [np.zeros((4, 9, 9, 3), np.float32), {"a": np.zeros(3), "b": np.zeros(3)}, np.zeros((0, 16, 16, 3), np.float32)], ids=["shape", "names", "empty"])
def test_data_that_do_not_fit_are_a_named_error(small_model, data, tmp_path):
    output = tmp_path / "out.tflite"
    with pytest.raises(InputError, match="data: "):
        convert.convert(small_model, calibration_data=data, output=output)
    assert not output.exists()


def test_samples_quantize_float_data_for_integer_inputs():
    detail = {"name": "x", "shape": np.array([2, 3]), "dtype": np.int8, "quantization": (0.5, -1)}
    first, second = samples([detail], np.arange(15, dtype=np.float32).reshape(5, 3))  # two whole batches of two
    assert np.array_equal(first[0], [[-1, 1, 3], [5, 7, 9]]) and second[0].dtype == np.int8
