"""The compressibility term: scale-free, least for sparse weights, and it grows along its ramp."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="Keras and a backend are needed to train")
import tensorflow as tf

from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods import Compressibility
from tflite_smart.methods.compressibility import ratio


def test_ratio():
    assert np.isclose(ratio(tf.constant([3.0, 4.0, 0, 0])), 7 / (2 * 5)) and np.isclose(ratio(tf.constant([[1.0, -1.0]])), 1) and ratio(tf.zeros(5)) == 0
    weight = tf.constant(np.random.default_rng(0).normal(size=(20, 30)))
    assert np.isclose(ratio(weight), ratio(weight * 1000))


def test_its_critical_points_are_ternary():
    """Every magnitude at ||w||_2^2 / ||w||_1 or 0, arXiv:1905.01044: the gradient vanishes where |w| > 0."""
    variable = tf.Variable([2.0, -2.0, 0.0, 2.0])
    with tf.GradientTape() as tape:
        loss = ratio(variable)
    assert np.allclose(tape.gradient(loss, variable), 0, atol=1e-6)


def test_training_with_it_alone_makes_weights_sparse():
    variable = tf.Variable(np.random.default_rng(1).normal(size=200).astype(np.float32))
    before = float(ratio(variable))
    for _ in range(150):
        with tf.GradientTape() as tape:
            loss = ratio(variable)
        variable.assign_sub(20.0 * tape.gradient(loss, variable))
    small = np.abs(variable.numpy()) < 0.1 * np.abs(variable.numpy()).max()
    assert float(ratio(variable)) < 0.75 * before and np.mean(small) > 0.4


def test_ramp():
    method = Compressibility(0.5, ramp_steps=4)
    strengths = [float(method.initial(None, None)["strength"])] + [float(method.update(None, {}, None, tf.constant(step))["strength"]) for step in range(1, 7)]
    assert np.allclose(strengths, [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5])
    assert np.isclose(method.loss(tf.ones(4), {"strength": 0.25}, None), 0.25)
    assert Compressibility(0.5).initial(None, None)["strength"] == 0.5


def test_settings_are_checked():
    with pytest.raises(RecipeError, match="must be"):
        Compressibility(-1.0)
