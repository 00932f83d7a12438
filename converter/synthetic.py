"""Made-up inputs for a model, where there are no data: in the ranges that models are trained for, as smooth noise or, for images, as scenes.

Rounding errors do to a network what its inputs let them do. Noise drives all filters alike and all layers hard; images are areas with edges in between, mostly grey, and that can be made up: opaque
leaves of all sizes that fall on each other have the statistics of natural images (dead leaves: Lee, Mumford and Huang, IJCV 2001). On ResNet56 and ResNet8 the layers' sensitivities in dB then correlate
by .92 and .97 with those on CIFAR-10 (noise: .82 for ResNet8), and the output SNR of a finely packed model is within 3 dB of the real one (noise: 7).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

RANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "standard normal": lambda values: values,
    "0 to 1": lambda values: np.clip(0.25 * values + 0.5, 0, 1),
    "0 to 255": lambda values: np.clip(64 * values + 128, 0, 255),
    "decibels": lambda values: 15 * values - 30,
}
_FREE_DIMENSION = 16  # length given to an axis that the model leaves open, the first (the batch) excepted
VOCABULARIES = (8, 2)  # token ids below the first exist in almost any embedding table, below the second in all that are worth one
_IMAGE_CHANNELS, _LEAST_IMAGE = (1, 3, 4), 16
_MOST_LEAVES = 300
_COLOUR = 0.4  # standard deviation of a leaf's colours around its grey, whose own is 1


def synthetic_inputs(details: Sequence[Mapping], num_samples: int, seed: int = 0, vocabulary: int = VOCABULARIES[0], scenes: bool = True) -> list[list[list[np.ndarray]]]:
    """Made-up inputs, seeded: for every range a list of samples, each a list with one array per entry of `get_input_details()`.

    Integer inputs are token ids or quantized values and get the same uniform noise in every range; a model without float inputs has one range.

    Args:
        scenes: images are scenes, not noise.
    """
    rng = np.random.default_rng(seed)
    has_float = any(np.issubdtype(detail["dtype"], np.floating) for detail in details)
    ranges = list(RANGES.values()) if has_float else [lambda values: values]
    made = [[_made_up(detail, rng, vocabulary, scenes) for detail in details] for _ in range(num_samples)]
    return [
        [[to_range(values).astype(values.dtype) if np.issubdtype(values.dtype, np.floating) else values for values in sample] for sample in made]
        for to_range in ranges
    ]


def _made_up(detail: Mapping, rng: np.random.Generator, vocabulary: int, scenes: bool) -> np.ndarray:
    """One input: floats of unit variance, or uniform integers."""
    dtype = np.dtype(detail["dtype"])
    signature = detail.get("shape_signature", detail["shape"])
    shape = [int(n) if s != -1 or axis == 0 else _FREE_DIMENSION for axis, (n, s) in enumerate(zip(detail["shape"], signature))]
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if not np.issubdtype(dtype, np.floating):
        low, high = (0, vocabulary) if dtype.itemsize > 2 else (np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
        return rng.integers(low, high, shape).astype(dtype)
    is_image = len(shape) == 4 and shape[-1] in _IMAGE_CHANNELS and min(shape[1:3]) >= _LEAST_IMAGE
    values = np.stack([scene(shape[1:], rng) for _ in range(shape[0])]) if scenes and is_image else smooth_noise(shape, rng)
    return (values / max(values.std(), 1e-9)).astype(dtype)


def smooth_noise(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Noise in four octaves along every axis but the first and the last."""
    total = np.zeros(shape)
    for octave in (1, 2, 4, 8):
        inner = [-(-n // octave) for n in shape[1:-1]]
        coarse = rng.standard_normal([*shape[:1], *inner, *shape[-1:]]) if len(shape) > 1 else rng.standard_normal(shape)
        for axis in range(1, len(shape) - 1):
            coarse = np.repeat(coarse, octave, axis).take(range(shape[axis]), axis)
        total += octave * coarse
    return total


def scene(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """An image `(height, width, channels)` of zero mean: elliptic leaves, each of one colour with a slope of brightness, the first ones on top."""
    height, width, channels = shape
    y, x = np.mgrid[:height, :width]
    picture, bare = np.zeros(shape), np.ones((height, width), bool)
    for _ in range(_MOST_LEAVES):
        radius = min(height, width) * 0.6 * (0.04 + rng.uniform() ** 3)
        angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 4)
        along, across = (np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))
        down, right = y - rng.uniform(-0.1, 1.1) * height, x - rng.uniform(-0.1, 1.1) * width
        leaf = bare & (np.hypot(along[0] * down + along[1] * right, stretch * (across[0] * down + across[1] * right)) < radius)
        colour, slope = rng.standard_normal() + _COLOUR * rng.standard_normal(channels), 0.3 / max(height, width) * rng.standard_normal(2)
        picture[leaf] = colour + (slope[0] * down + slope[1] * right)[leaf][:, None]
        bare &= ~leaf
        if not bare.any():
            break
    return picture - picture.mean()
