"""Clusters: where centroids begin, which weights they take, and that gradients reach them."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="Keras and a backend are needed to train")
import tensorflow as tf

from tflite_smart.converter import structure
from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods import Cluster, Layout
from tflite_smart.methods.clustering import INITIALS, first_centroids, nearest

LAYOUT = Layout((3, 3, 4, 8), (3,), (0, 1))


@pytest.fixture
def weight():
    return (np.random.default_rng(3).normal(size=LAYOUT.shape) * np.linspace(0.1, 2, 8)).astype(np.float32)


@pytest.mark.parametrize("kind", INITIALS)
def test_first_centroids(kind):
    values = np.random.default_rng(1).laplace(size=20_000)
    centroids = first_centroids(values, 16, kind)
    error = np.mean(np.square(values - np.asarray(nearest(tf.constant(values), tf.constant(centroids.astype(np.float64))))))
    assert np.array_equal(centroids, np.sort(centroids)) and centroids.dtype == np.float32
    # Equal spacing over the range of 20,000 Laplacian values (about +-10) has the step 1.3; the others put centroids where weights are.
    assert error < {"k-means++": 0.04, "density": 0.2, "linear": 0.14}[kind]


def test_k_means_finds_separate_clusters():
    centres = np.array([-5, -1, 0.5, 2, 7])
    values = centres[np.random.default_rng(2).integers(0, 5, 1000)]
    assert np.allclose(first_centroids(values, 5, "k-means++"), centres)


def test_few_values_are_no_problem():
    assert np.array_equal(first_centroids(np.zeros(9), 4, "k-means++"), np.zeros(4))
    assert np.all(np.isin(first_centroids(np.array([0.0, 2, 2]), 4, "k-means++"), [2]))


def test_nearest_and_zeros():
    got = nearest(tf.constant([0.0, 0.2, -0.9, 3.0, 0.6]), tf.constant([1.0, -1.0, 0.1]))
    assert np.allclose(got, [0, 0.1, -1, 1, 1]) and got[0] == 0


def test_centroids_get_the_gradients_of_their_weights():
    centroids, weight = tf.Variable([-1.0, 1.0]), tf.Variable([0.5, 0.7, -2.0, 0.0])
    with tf.GradientTape() as tape:
        value = Cluster(2).apply(weight, {"centroids": centroids}, Layout((4, 1), (1,)))
        loss = tf.reduce_sum(value * tf.constant([1.0, 2.0, 5.0, 9.0]))
    to_weight, to_centroids = tape.gradient(loss, [weight, centroids])
    assert np.allclose(tf.convert_to_tensor(to_centroids), [5, 3]) and np.allclose(to_weight, [1, 2, 5, 9])


@pytest.mark.parametrize("per_channel", [False, True])
def test_conversion_finds_the_codebook(per_channel, weight):
    method = Cluster(12, per_channel)
    finished = method.finish(weight, method.initial(weight, LAYOUT), LAYOUT).weight
    folded = np.asarray(LAYOUT.to_matrix(finished)) * np.linspace(0.5, 3, 8, dtype=np.float32)[:, None]
    found = structure.recognise(folded)
    assert found.value_kind == "codebook" and len(np.unique(found.ids)) <= 12
    error = np.linalg.norm(finished - weight) / np.linalg.norm(weight)
    assert 0.02 < error < 0.3


@pytest.mark.parametrize("make", [lambda: Cluster(1), lambda: Cluster(257), lambda: Cluster(initial_centroids="random")])
def test_settings_are_checked(make):
    with pytest.raises(RecipeError, match="must be"):
        make()
