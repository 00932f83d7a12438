"""Binary and ternary weights: values, zeros, annealing, gradients, and that conversion finds them again."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="Keras and a backend are needed to train")
import tensorflow as tf

from tflite_smart.converter import structure
from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods import Binarize, Layout, Ternarize
from tflite_smart.methods.binarize import binary
from tflite_smart.methods.ternarize import ternary

LAYOUT = Layout((3, 3, 4, 8), (3,), (0, 1))


@pytest.fixture
def weight():
    return np.random.default_rng(3).normal(size=LAYOUT.shape).astype(np.float32)


def test_binary_values():
    assert np.allclose(binary(tf.constant([[3.0, -1.0, 2.0, 0.0]]), (1,)), [[1.5, -1.5, 1.5, 0]])


def test_residual_buckets_bound_the_error(weight):
    """alpha = 4 buckets; inside the outermost ones the error is half a bucket."""
    got = np.asarray(binary(tf.constant(weight), (0, 1, 2), 3))
    width = np.abs(weight).mean(axis=(0, 1, 2)) / 4
    inside = (np.abs(weight) < 7 * width) & (np.abs(weight) > width / 2)  # the smallest magnitude is one bucket, as the sign stays
    assert np.all(np.abs(got - weight)[inside] <= (np.broadcast_to(width, weight.shape)[inside] / 2) * 1.001)
    assert np.array_equal(np.sign(got), np.sign(weight)) and len(np.unique(np.rint(got / width))) <= 14


def test_ternary_values():
    # mean magnitude 2, so the limit is 1.4; the others' mean is 3.5
    assert np.allclose(ternary(tf.constant([[4.0, -3.0, 1.0, 0.0]]), (1,), 0.7), [[3.5, -3.5, 0, 0]])


def test_ternary_is_nearly_least_squares_for_gaussian_weights():
    weight = np.random.default_rng(1).normal(size=(1, 100_000)).astype(np.float32)
    errors = [float(np.mean(np.square(np.asarray(ternary(tf.constant(weight), (1,), threshold)) - weight))) for threshold in (0.3, 0.7, 0.77, 1.1)]
    assert errors[1] < 0.2 and errors[1] < errors[0] and errors[1] < errors[3] and abs(errors[1] - errors[2]) < 0.002


@pytest.mark.parametrize("method, kind", [(Binarize(), "midrise"), (Binarize(residual_buckets=2), "uniform"), (Ternarize(), "uniform")])
def test_conversion_finds_them_and_zeros_stay(method, kind, weight):
    finished = method.finish(weight, {}, LAYOUT).weight
    found = structure.recognise(np.asarray(LAYOUT.to_matrix(finished)))
    assert found.value_kind == kind
    weight[:, :, 1] = 0
    assert np.all(method.finish(weight, {}, LAYOUT).weight[:, :, 1] == 0)


def test_annealing_goes_from_float_to_rounded(weight):
    method = Ternarize(anneal_steps=4)
    variables = {name: tf.constant(value) for name, value in method.initial(weight, LAYOUT).items()}
    distances = []
    for step in range(6):
        value = method.apply(tf.constant(weight), variables, LAYOUT)
        distances.append(float(np.abs(value - method.finish(weight, {}, LAYOUT).weight).max()))
        variables = method.update(tf.constant(weight), variables, LAYOUT, tf.constant(step + 1))
        if step == 0:
            np.testing.assert_allclose(value, weight, rtol=1e-6)
    assert distances[0] > 0 and np.allclose(np.diff(distances[:5]), -distances[0] / 4, rtol=1e-4) and distances[4] == distances[5] == 0


@pytest.mark.parametrize("method", [Binarize(), Ternarize(anneal_steps=3)])
def test_gradients_pass_straight_through(method, weight):
    variable = tf.Variable(weight)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(method.apply(variable, method.initial(weight, LAYOUT), LAYOUT) * 2.0)
    assert np.array_equal(tape.gradient(loss, variable), np.full(LAYOUT.shape, 2.0))


@pytest.mark.parametrize("make", [lambda: Binarize(anneal_steps=-1), lambda: Binarize(residual_buckets=63), lambda: Ternarize(threshold=0)])
def test_settings_are_checked(make):
    with pytest.raises(RecipeError, match="must be"):
        make()
