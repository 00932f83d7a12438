"""Wide steps: how many bits they take, and grids that are there already."""

import math

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the Keras side needs a backend")

from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods import EntropyQuantize, Layout

CONV = Layout((3, 3, 16, 8), (3,), (0, 1))
DEPTHWISE = Layout((3, 3, 8, 2), (2, 3), (0, 1))


def rounded(method, weight, layout):
    return np.asarray(method.apply(weight, method.initial(weight, layout), layout))


def entropy(values):
    share = np.unique(values, return_counts=True)[1] / values.size
    return -(share * np.log2(share)).sum()


@pytest.mark.parametrize(("step", "about"), [(1.0, 2), (2.0, 1), (3.0, 0.5)])
def test_bits_of_gaussian_weights(rng, step, about):
    """The entropy of the bins' probabilities, which is what the docstring says."""
    layout = Layout((256, 256), (1,))
    values = rounded(EntropyQuantize(step), rng.normal(size=layout.shape).astype(np.float32), layout)
    edges = step * (np.arange(9) + EntropyQuantize().dead_zone)
    beyond = np.array([math.erfc(edge / math.sqrt(2)) / 2 for edge in edges])
    side = beyond - np.append(beyond[1:], 0)
    share = np.concatenate([[1 - 2 * beyond[0]], side, side])
    expected = -(share * np.log2(np.maximum(share, 1e-300))).sum()
    assert abs(entropy(np.rint(values / step)) - expected) < 0.02 and abs(expected - about) < 0.15


@pytest.mark.parametrize("layout", [CONV, DEPTHWISE], ids=["conv", "depthwise"])
def test_a_grid_is_kept(rng, layout):
    """Every id, whatever the channels' steps; new weights are rounded to the same steps. A channel of zeros may come back."""
    steps = rng.uniform(0.5, 2, layout.matrix_shape[0]).astype(np.float32)
    ids = np.rint(rng.laplace(0, 1, layout.matrix_shape))
    ids[:, 0], ids[3] = 1, 0
    weight = np.asarray(layout.from_matrix((steps[:, None] * ids).astype(np.float32)))
    np.testing.assert_allclose(rounded(EntropyQuantize(keep_grid=True), weight, layout), weight, rtol=1e-6)
    assert not np.allclose(rounded(EntropyQuantize(), weight, layout), weight, rtol=0.1)
    method = EntropyQuantize(keep_grid=True)
    variables = method.initial(weight, layout)
    moved = np.asarray(method.apply(weight + 0.6 * np.asarray(layout.from_matrix(np.broadcast_to(steps[:, None], ids.shape))).astype(np.float32), variables, layout))
    other = np.asarray(layout.to_matrix(moved))[[0, 1, 2, 4]] / steps[[0, 1, 2, 4], None]
    np.testing.assert_allclose(other, ids[[0, 1, 2, 4]] + 1, atol=1e-4)
    assert variables["width"].min() > 0


def test_without_a_grid_the_step_counts(rng):
    weight = rng.normal(size=CONV.shape).astype(np.float32)
    assert np.array_equal(rounded(EntropyQuantize(2.0, keep_grid=True), weight, CONV), rounded(EntropyQuantize(2.0), weight, CONV))
    assert (rounded(EntropyQuantize(keep_grid=True), np.zeros(CONV.shape, np.float32), CONV) == 0).all()


@pytest.mark.parametrize("fields", [{"step": 0.0}, {"step": 11}, {"dead_zone": 0.4}, {"dead_zone": 1.1}])
def test_errors(fields):
    with pytest.raises(RecipeError, match="entropy_quantize: step must be"):
        EntropyQuantize(**fields)
