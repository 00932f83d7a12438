"""Rounding with feedback, and the layer statistics that it needs."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter import buckets, compress, convert, feedback, layer_statistics, trellis
from tflite_smart.converter.calibration import samples
from tflite_smart.converter.errors import InputError
from tflite_smart.delegates import native

SEED = 3


def correlated_inputs(rows, k):
    rng = np.random.default_rng(SEED)
    return np.maximum(rng.standard_normal((rows, 8)) @ rng.standard_normal((8, k)) + 0.3 * rng.standard_normal((rows, k)), 0).astype(np.float32)


def plain(weights, steps, value_kind):
    return buckets.to_buckets(weights, steps, value_kind == "midrise")


def output_error(inputs, weights, steps, ids, value_kind):
    return np.square(inputs @ (steps[:, None] * trellis.plain_values(ids, value_kind) - weights).T).mean()


@pytest.mark.parametrize("value_kind", ["uniform", "midrise"])
def test_feedback_keeps_the_output_closer_than_rounding(value_kind):
    """On correlated inputs, judged on other inputs of the same kind. They have 8 directions; without data one of them, their mean, is known."""
    inputs = correlated_inputs(4000, 150)
    seen, unseen = inputs[:2000], inputs[2000:]
    weights = np.random.default_rng(SEED).normal(0, 0.05, (40, 150)).astype(np.float32)
    steps = buckets.bucket_steps(weights, 0.2)
    measured = feedback.MeasuredInputs(feedback.feedback_factor(seen.T @ seen / len(seen)))
    ids = [plain(weights, steps, value_kind)] + [feedback.round_ids(weights, steps, known, value_kind) for known in (feedback.TypicalInputs((1, 1), 150), measured)]
    error = [output_error(unseen, weights, steps, each, value_kind) for each in ids]
    assert error[1] < 0.8 * error[0]
    assert error[2] < 0.25 * error[1]


def test_dependent_is_a_decibel_better_at_the_bits_of_uniform():
    """At the same mean square error the ids have 0.14 to 0.2 bit less entropy, for Gaussian and for Laplacian weights."""
    rng = np.random.default_rng(SEED)
    for weights in (rng.normal(size=(100, 576)), rng.laplace(size=(100, 576))):
        weights = weights.astype(np.float32)
        steps = np.full(100, 0.45, np.float32)
        fine = buckets.dependent_steps(weights, steps)
        both = [plain(weights, steps, "uniform"), feedback.round_ids(weights, fine, feedback.IndependentInputs(), "dependent")]
        error = [np.square(scale[:, None] * trellis.plain_values(ids, kind) - weights).mean() for ids, scale, kind in zip(both, (steps, fine), ("uniform", "dependent"))]
        assert 0.96 < error[1] / error[0] < 1.04
        assert 0.14 < compress.entropy(both[0]) - compress.entropy(both[1]) < 0.21


def test_dependent_is_left_to_weights_that_gain():
    rng = np.random.default_rng(SEED)
    weights = rng.normal(size=(40, 200)).astype(np.float32)
    assert buckets.dependent_steps(weights, np.full(40, 0.3, np.float32)) is not None
    assert buckets.dependent_steps(weights, np.full(40, 0.02, np.float32)) is None, "the largest weight has more than 126 of the fine steps"
    sparse = np.where(rng.random(weights.shape) < 0.9, 0, weights).astype(np.float32)
    assert buckets.dependent_steps(weights, np.full(40, 1.6, np.float32)) is not None and buckets.dependent_steps(weights, np.full(40, 2.0, np.float32)) is None, "beyond 60 % of zeros"
    assert buckets.dependent_steps(sparse, np.full(40, 0.3, np.float32)) is None, "zeros stay zeros, at a fraction of a bit"


@pytest.mark.parametrize(("taps", "channels"), [((3, 3), 20), ((1, 1), 150), ((3, 3), 1), ((1, 5), 70), ((5, 3), 3)])
def test_typical_inputs_are_the_factor_of_their_second_moment(taps, channels):
    """What the closed form says is what the Cholesky factor of the k x k matrix says."""
    places = np.stack(np.unravel_index(np.arange(taps[0] * taps[1]), taps), 1)
    distance = np.sqrt(np.square(places[:, None] - places[None]).sum(-1))
    size = len(places) * channels
    moment = np.einsum("ab,ij->aibj", (1 - feedback._MEAN_SHARE) * feedback._TAP_CORRELATION**distance, np.eye(channels)).reshape(size, size) + feedback._MEAN_SHARE
    upper = np.linalg.cholesky(moment[::-1, ::-1])[::-1, ::-1]
    matrix, weights = upper / upper.diagonal(), np.square(upper.diagonal())
    weights /= np.exp(np.log(weights).mean())
    typical = feedback.TypicalInputs(taps, channels)
    follow, errors = typical.follow(3), np.random.default_rng(SEED).normal(size=(3, size)).astype(np.float32)
    for start in range(0, size, 64):
        end = min(start + 64, size)
        inside, importance = typical.block(start, end)
        np.testing.assert_allclose(np.triu(inside, 1), np.triu(matrix[start:end, start:end], 1), atol=1e-6)
        np.testing.assert_allclose(importance, weights[start:end], rtol=1e-5)
        np.testing.assert_allclose(follow(errors, start, end), errors[:, :start] @ matrix[:start, start:end], atol=2e-5)


def test_wide_steps_leave_the_outputs_as_large_as_they_were(monkeypatch):
    """Three weights in four become 0. Rounded once, the outputs are 5 % too small; once more, within what chance leaves: 40 channels that are off by 5 % each, at random."""
    rng = np.random.default_rng(0)
    inputs, weights = np.maximum(rng.normal(size=(2000, 150)), 0).astype(np.float32), rng.laplace(0, 0.05, (40, 150)).astype(np.float32)
    known, steps, outputs = feedback.MeasuredInputs(feedback.feedback_factor(inputs.T @ inputs / len(inputs))), buckets.bucket_steps(weights, 0.6), inputs @ weights.T
    kept = []
    for wide in (feedback._WIDE, 2.0):  # nothing is as wide as that
        monkeypatch.setattr(feedback, "_WIDE", wide)
        ids = feedback.round_ids(weights, steps, known)
        assert 0.7 < np.mean(ids == 0) < 0.8
        kept.append((outputs * (inputs @ (ids * steps[:, None]).T)).sum() / np.square(outputs).sum())
    assert abs(kept[0] - 1) < 0.03 and 0.94 < kept[1] < 0.96


def test_independent_inputs_leave_plain_rounding():
    """Where H is a multiple of the identity no other weight can make up for an error."""
    weights = np.random.default_rng(SEED).normal(0, 1, (5, 70)).astype(np.float32)
    steps = np.full(5, 0.3, np.float32)
    for inputs in (feedback.MeasuredInputs(feedback.feedback_factor(np.eye(70, dtype=np.float32))), feedback.IndependentInputs()):
        assert np.array_equal(feedback.round_ids(weights, steps, inputs), plain(weights, steps, "uniform"))


def test_channels_of_zeros_and_inputs_that_never_occur():
    weights = np.ones((3, 20), np.float32)
    weights[1] = 0
    steps = np.array([0.4, 0, 0.4], np.float32)
    ids = feedback.round_ids(weights, steps, feedback.MeasuredInputs(feedback.feedback_factor(np.zeros((20, 20), np.float32))))
    assert np.array_equal(ids[1], np.zeros(20)) and np.array_equal(ids[0], np.full(20, 2))


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 7, 64])
def test_the_library_rounds_as_the_reference(dependent, columns):
    """Outliers, zeros, a strong matrix, every state to start from."""
    rng = np.random.default_rng(SEED)
    weights = rng.normal(0, 9, (40, columns)).astype(np.float32)
    weights[3], weights[4], weights[5], weights[6, ::2] = 500, -500, 0, 0
    arguments = [weights, rng.normal(0, 0.3, weights.shape).astype(np.float32), rng.normal(0, 0.2, (columns, columns)).astype(np.float32), np.exp(rng.normal(0, 0.5, columns)).astype(np.float32)]
    states = [np.arange(40, dtype=np.uint8) % 8 for _ in range(2)]
    first, second = trellis.round_block(*arguments, states[0], dependent), native.round_block(*arguments, states[1], dependent)
    for a, b in zip((*first, states[0]), (*second, states[1])):
        np.testing.assert_array_equal(a, b)


def test_pruned_weights_stay_pruned_and_cost_their_entropy():
    """90 % zeros: everything counted, within 6 % of the ids' order-0 entropy, and not a zero turned."""
    rng = np.random.default_rng(SEED)
    weights = np.where(rng.random((256, 3, 3, 256)) < 0.9, 0, rng.normal(size=(256, 3, 3, 256))).astype(np.float32)
    result = compress.compress_tensor(weights, 0, compress.TensorSettings(buckets="dependent", relative_error=0.1, taps=(3, 3)))
    ids = result.quantized.ids
    assert result.value_kind == "uniform" and not ids[weights.reshape(256, -1) == 0].any()
    assert 0.5 < compress.entropy(ids) < result.bits_per_weight < 1.06 * compress.entropy(ids) < 1.0


def test_values_of_dependent_ids_by_hand():
    """State 0: even numbers; after an odd id state 2; from 2 an even id leads to 1, which counts on odd numbers, and so on; 127 wraps."""
    ids = np.array([[0, 1, -2, 0, 127, 3]], np.int8)
    states = [0, 0, 2, 1, 5, 6]
    for k, state in enumerate(states[:-1]):
        assert trellis.NEXT_STATE[state, ids[0, k] & 1] == states[k + 1]
    assert trellis.dependent_values(ids).tolist() == [[0, 2, -4, 1, -1, 6]]


@pytest.mark.parametrize(("field", "value", "message"), [("columns", 65, "num_columns"), ("states", 8, "states")])
def test_the_library_refuses_what_it_can_not_round(field, value, message):
    columns = value if field == "columns" else 3
    states = np.full(2, value if field == "states" else 0, np.uint8)
    block = np.zeros((2, columns), np.float32)
    with pytest.raises(native.NativeError, match=message):
        native.round_block(block, block, np.zeros((columns, columns), np.float32), np.ones(columns, np.float32), states, True)


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
