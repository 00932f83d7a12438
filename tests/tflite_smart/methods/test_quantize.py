"""Weights on a grid: scales, gradients, and what batch normalization does to them."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="the Keras side needs a backend")

from tflite_smart.converter.buckets import grid_steps
from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods import Layout, Quantize

CONV = Layout((3, 3, 16, 8), (3,), (0, 1))


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_channel_lies_on_its_grid(rng, bits):
    method, weight = Quantize(bits), rng.normal(size=CONV.shape).astype(np.float32)
    weight[..., 3] = 0
    value = np.asarray(method.apply(weight, method.initial(weight, CONV), CONV))
    matrix = np.asarray(CONV.to_matrix(value))
    steps = grid_steps(matrix)
    assert steps is not None and (matrix[3] == 0).all()
    ids = np.rint(matrix / np.where(steps > 0, steps, 1)[:, None])
    assert np.abs(ids).max() <= method.largest_id and len(np.unique(ids)) > 0.75 * 2 * method.largest_id  # of 8 bits, 1152 Gaussian weights miss some
    # A Gaussian's signal-to-noise ratio with an optimal uniform quantizer of so many levels (Max 1960; 3 levels: 7.2 dB; 8 bits: scaled to the largest weight instead), less what 144 samples scatter by.
    least = {2: 7.2, 3: 13.5, 4: 19.6, 5: 25.3, 6: 30.9, 7: 36.4, 8: 43}[bits]
    snr = 10 * np.log10(np.square(weight).sum() / np.square(value - weight).sum())
    assert least - 1 < snr < least + 3


def test_the_scale_follows_the_weights(rng):
    method, weight = Quantize(3), rng.normal(size=CONV.shape).astype(np.float32)
    variables = method.initial(weight, CONV)
    grown = weight * 1.5
    for step in range(1, 30):
        variables = {name: np.asarray(value) for name, value in method.update(grown, variables, CONV, step).items()}
    error, best = (np.square(grown - np.asarray(method.apply(grown, state, CONV))).sum() for state in (variables, method.initial(grown, CONV)))
    assert error < 1.1 * best


def test_gradients_pass_inside_the_range(rng):
    method, weight = Quantize(2), tf.Variable(rng.normal(size=CONV.shape).astype(np.float32))
    variables = method.initial(weight.numpy(), CONV)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(method.apply(weight, variables, CONV))
    inside = np.abs(weight.numpy()) <= variables["scale"]
    assert np.array_equal(tape.gradient(total, weight).numpy() != 0, inside)


def test_folding_scales_the_grid(rng):
    """The folded weights, whatever the sign of the factor, are on the same ids."""
    method, weight = Quantize(4), rng.normal(size=CONV.shape).astype(np.float32)
    factor = rng.uniform(-2, 2, 8).astype(np.float32)
    matrix = np.asarray(CONV.to_matrix(method.apply(weight, method.initial(weight, CONV), CONV)))
    steps, folded = grid_steps(matrix), grid_steps(matrix * factor[:, None])
    np.testing.assert_allclose(folded, steps * np.abs(factor), rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 9, "4", 2.5])
def test_errors(bits):
    with pytest.raises(RecipeError, match="bits must be"):
        Quantize(bits)
