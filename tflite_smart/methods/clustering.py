"""Clustering: the weights of a layer share a few values, the centroids, which are trained with the network.

Source: Deep Compression, arXiv:1510.00149, section 3; k-means++: Arthur and Vassilvitskii 2007. Conversion finds the centroids again and stores them as a codebook, also when a batch normalisation was folded in.
"""

import dataclasses

import numpy as np
from keras import ops

from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods.base import Layout, Method, VariableSpec, register, straight_through

_SEED = 0
_SAMPLE = 4096
_ROUNDS = 10
INITIALS = ("k-means++", "density", "linear")


@register("cluster")
@dataclasses.dataclass(frozen=True)
class Cluster(Method):
    """Replaces every weight by the nearest centroid. Gradients reach both: the centroid sums those of its weights, and the weight keeps its own so that it can change sides. Zeros stay zero.

    Attributes:
        num_clusters: 2..256.
        per_channel: centroids times the channel's root mean square: one codebook for channels of any size.
        initial_centroids: `k-means++` (then Lloyd's rounds), `density` (equally many weights each), `linear` (equally spaced).
    """

    num_clusters: int = 16
    per_channel: bool = False
    initial_centroids: str = "k-means++"

    def __post_init__(self):
        if not 2 <= self.num_clusters <= 256:
            raise RecipeError(f"cluster: num_clusters must be 2..256. Received: num_clusters={self.num_clusters}.")
        if self.initial_centroids not in INITIALS:
            raise RecipeError(f"cluster: initial_centroids must be one of {', '.join(INITIALS)}. Received: initial_centroids={self.initial_centroids!r}.")

    def variables(self, layout):
        return {"centroids": VariableSpec((self.num_clusters,), trainable=True)}

    def initial(self, weight, layout):
        scale = ops.convert_to_numpy(self._scale(ops.convert_to_tensor(weight), layout))
        return {"centroids": first_centroids(weight / scale, self.num_clusters, self.initial_centroids)}

    def apply(self, weight, variables, layout):
        scale = self._scale(weight, layout)
        return straight_through(scale * nearest(weight / scale, variables["centroids"]), weight)

    def _scale(self, weight, layout: Layout):
        if not self.per_channel:
            return ops.ones([1] * len(layout.shape))
        square = ops.mean(ops.square(ops.stop_gradient(weight)), axis=layout.inner_axes, keepdims=True)
        return ops.where(square > 0, ops.sqrt(square), ops.ones_like(square))


def nearest(weight, centroids):
    """The nearest centroid to every weight, exact zeros for zeros; differentiable in the centroids. Tensors."""
    ordered = ops.take(centroids, ops.argsort(ops.stop_gradient(centroids)))
    edges = ops.stop_gradient((ordered[1:] + ordered[:-1]) / 2)
    chosen = ops.searchsorted(edges, ops.reshape(ops.stop_gradient(weight), (-1,)))
    return ops.where(weight == 0, ops.zeros_like(weight), ops.reshape(ops.take(ordered, chosen), weight.shape))


def first_centroids(values: np.ndarray, num_clusters: int, kind: str) -> np.ndarray:
    """Sorted centroids, float32 `(num_clusters,)`, of the values that are not zero; from a sample of them."""
    rng = np.random.default_rng(_SEED)
    values = values[values != 0].astype(np.float64)
    if len(values) == 0:
        return np.zeros(num_clusters, np.float32)
    sample = np.sort(rng.choice(values, _SAMPLE, replace=False) if len(values) > _SAMPLE else values)
    if kind == "linear":
        centroids = np.linspace(sample[0], sample[-1], num_clusters)
    elif kind == "density":
        centroids = np.quantile(sample, (np.arange(num_clusters) + 0.5) / num_clusters)
    else:
        centroids = _lloyd(sample, _spread(sample, num_clusters, rng))
    return np.sort(centroids).astype(np.float32)


def _spread(sample: np.ndarray, num_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each next centroid is drawn with a probability in proportion to the squared distance to those before."""
    centroids = [rng.choice(sample)]
    distance = np.square(sample - centroids[0])
    while len(centroids) < num_clusters:
        total = distance.sum()
        centroids.append(rng.choice(sample, p=distance / total) if total > 0 else centroids[0])
        distance = np.minimum(distance, np.square(sample - centroids[-1]))
    return np.sort(np.array(centroids))


def _lloyd(sample: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Moves every centroid to the mean of its values, some times; one without values stays."""
    for _ in range(_ROUNDS):
        owner = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, sample)
        counts = np.bincount(owner, minlength=len(centroids))
        sums = np.bincount(owner, sample, minlength=len(centroids))
        centroids = np.sort(np.where(counts > 0, sums / np.maximum(counts, 1), centroids))
    return centroids
