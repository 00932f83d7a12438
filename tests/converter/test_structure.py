"""What training put in the weights is found again after folding: grids, binary weights, clusters, coefficients and bases."""

import dataclasses

import numpy as np
import pytest

from tflite_smart.converter import smartdeal, structure
from tflite_smart.converter.compress import TensorSettings, compress_tensor
from tflite_smart.converter.format import Quantized


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def folded(rng, values):
    """A batch normalisation folded in: one factor per channel, rounded once per weight; some are negative."""
    factors = rng.uniform(0.01, 3, (len(values), 1)) * rng.choice([-1, 1], (len(values), 1))
    return (values.astype(np.float32) * factors.astype(np.float32)).astype(np.float32)


def check_found(weights, kind, num_ids):
    found = structure.recognise(weights)
    assert found.value_kind == kind and len(np.unique(found.ids)) == num_ids
    np.testing.assert_allclose(found.values(), weights, rtol=0, atol=2e-6 * np.abs(weights).max(axis=1).max())
    return found


def test_binary_weights_are_one_bit(rng):
    weights = folded(rng, rng.choice([-1.0, 1.0], (40, 50)))
    assert set(np.unique(check_found(weights, "midrise", 2).ids)) == {-1, 0}


def test_ternary_weights_are_a_grid(rng):
    weights = folded(rng, rng.choice([-1.0, 0.0, 1.0], (40, 50)))
    assert set(np.unique(check_found(weights, "uniform", 3).ids)) == {-1, 0, 1}


@pytest.mark.parametrize("num_clusters", [3, 16, 100, 256])
@pytest.mark.parametrize("shape", [(64, 288), (300, 40)])
def test_clusters(rng, num_clusters, shape):
    centroids = np.sort(rng.normal(size=num_clusters)).astype(np.float32)
    weights = centroids[rng.integers(0, num_clusters, shape)]
    check_found(weights, "codebook", num_clusters)


def test_folded_clusters(rng):
    """Signs of the factors flip the codebook: a channel of either sign has a shift that fits, or adds its mirror image."""
    centroids = np.array([-1.7, -0.4, -0.1, 0, 0.13, 0.5, 2.1], np.float32)
    weights = folded(rng, centroids[rng.integers(0, 7, (64, 90))])
    found = check_found(weights, "codebook", 7)
    assert np.all(found.values()[weights == 0] == 0)


@pytest.mark.parametrize("weights", [lambda rng: rng.normal(size=(64, 90)), lambda rng: rng.normal(size=(700, 3)), lambda rng: rng.normal(size=(2000, 9)).round(2)])
def test_ordinary_weights_are_none_of_these(rng, weights):
    assert structure.recognise(weights(rng).astype(np.float32)) is None


def test_clusters_survive_compression(rng):
    """Exactly, at less than what the recipe would have spent on rounding them."""
    weights = rng.normal(size=16).astype(np.float32)[rng.integers(0, 16, (64, 3, 3, 32))]
    result = compress_tensor(weights, 0, TensorSettings(relative_error=0.02))
    assert result.value_kind == "codebook" and result.relative_error < 1e-6 and result.bits_per_weight < 4.8


def test_coefficients_and_bases_survive_with_other_scales(rng):
    fitted = smartdeal.decompose(rng.normal(size=(32, 144)).astype(np.float32), (3, 16, 48), 0.1)
    trained = Quantized(fitted.ids, "smartdeal", fitted.scales, basis=fitted.basis)
    weights = folded(rng, trained.values())
    result = compress_tensor(weights.reshape(32, 3, 3, 16), 0, TensorSettings(relative_error=0.3), trained=[trained])
    assert result.value_kind == "smartdeal" and np.array_equal(result.quantized.ids, fitted.ids) and result.relative_error < 1e-6
    other = dataclasses.replace(trained, ids=np.roll(fitted.ids, 1, axis=1))
    assert structure.with_scales(weights, other) is None
