"""Measuring output SNR and searching the budget, on a linear model whose answer is known."""

import math

import numpy as np
import pytest

from tflite_smart.converter.budget_search import search_budget
from tflite_smart.converter.probe import Belief, Probe, output_snr_db
from tflite_smart.converter.synthetic import synthetic_inputs

SEED = 11


def detail(shape, dtype=np.float32, signature=None):
    return {"index": 0, "shape": np.array(shape), "shape_signature": np.array(signature or shape), "dtype": dtype}


class Linear:
    """Enough of an interpreter to run y = x W."""

    def __init__(self, matrix):
        self.matrix = matrix

    def get_input_details(self):
        return [detail((1, len(self.matrix)))]

    def get_output_details(self):
        return [{"index": 1}]

    def resize_tensor_input(self, index, shape):
        raise AssertionError("the shape fits")

    def allocate_tensors(self):
        pass

    def set_tensor(self, index, value):
        self.x = value

    def invoke(self):
        self.y = self.x @ self.matrix

    def get_tensor(self, index):
        return self.y.astype(np.float32)


@pytest.mark.parametrize("noise", [0.5, 0.1, 0.01])
def test_snr_of_noisy_weights(noise):
    """Noise of relative power p in independent weights of a linear model is noise of relative power p in its outputs."""
    rng = np.random.default_rng(SEED)
    matrix = rng.standard_normal((512, 256))
    probe = Probe(Linear, matrix)
    assert probe.snr_db(matrix) == math.inf
    noisy = matrix + noise * rng.standard_normal(matrix.shape)
    # one of four ranges is the best of them; over 4 * 256 outputs the estimate is good to about 1 dB
    assert probe.snr_db(noisy) == pytest.approx(-20 * math.log10(noise), abs=1.5)


def test_a_range_that_saturates_the_outputs_says_nothing():
    """Inputs of 0 to 255 drive this model into its limits, where no noise in the weights shows."""

    class Saturating(Linear):
        def invoke(self):
            super().invoke()
            self.y = np.clip(self.y, -2, 2) if np.abs(self.x).max() < 50 else np.full_like(self.y, 2.0)

    rng = np.random.default_rng(SEED)
    matrix = rng.standard_normal((64, 32))
    probe = Probe(Saturating, matrix)
    assert 5 < probe.snr_db(matrix + 0.1 * rng.standard_normal(matrix.shape)) < 40
    assert probe.inputs_name != "0 to 255"


def test_the_busiest_range_in_which_a_fine_copy_is_fine():
    """The range that activity rates highest is given up where a hundredth of a per cent of noise changes the answers."""

    class Erratic(Linear):
        def invoke(self):
            super().invoke()
            self.y = np.sin(1e6 * self.y) if np.abs(self.x).max() > 50 else self.y

    rng = np.random.default_rng(SEED)
    matrix = rng.standard_normal((64, 32))
    fine = matrix + 1e-4 * rng.standard_normal(matrix.shape)
    probe = Probe(Erratic, matrix, rate=lambda sets: {"standard normal": 0.1, "0 to 1": 0.5, "0 to 255": 0.9, "decibels": 0.2})
    assert (probe.belief, probe.inputs_name) == (Belief.ACTIVITY, "0 to 255")
    probe.settle(fine)
    assert probe.inputs_name == "0 to 1"


def test_probabilities_are_compared_as_logarithms():
    logits = np.array([[20.0, 0.0, 1.0]])
    changed = logits + np.array([[0.0, 3.0, 0.0]])
    softmax = [np.exp(v) / np.exp(v).sum() for v in (logits, changed)]
    plain = output_snr_db([[logits]], [[changed]])
    assert output_snr_db([[softmax[0]]], [[softmax[1]]]) == pytest.approx(plain, abs=0.5)


def test_worst_output_counts_and_integers_do_not():
    a, b = np.array([[1.0, 2.0]]), np.array([[1.0, 2.1]])
    ints = np.array([1, 2])
    assert output_snr_db([[a, a, ints]], [[a, b, ints + 1]]) == output_snr_db([[a]], [[b]])
    assert math.isnan(output_snr_db([[ints]], [[ints]]))


@pytest.mark.parametrize("start", [0.5, 0.001])
def test_search_finds_the_target(start):
    rng = np.random.default_rng(SEED)
    calls = []

    def measure(budget):
        calls.append(budget)
        return 3 - 8.5 * math.log10(budget) + rng.normal(0, 2)  # measured networks lose 8 to 10 dB per factor of ten, and scatter

    budget = search_budget(measure, target_db=20, start=start)
    assert abs(3 - 8.5 * math.log10(budget) - 20) < 2.5 and len(calls) == 6


def test_search_survives_a_model_that_cannot_reach_the_target():
    """Bits that buy nothing are not spent: the largest budget that comes as near as any. Where finer ones do help, they are used up to the 8 bits that ids have."""
    assert search_budget(lambda budget: 5.0, target_db=20, start=0.1) == pytest.approx(0.1)
    assert search_budget(lambda budget: -10 - 10 * math.log10(budget), target_db=40, start=0.1) == pytest.approx(1e-5, rel=0.1)
    assert search_budget(lambda budget: math.nan, 20, 0.1) == pytest.approx(0.1)
    assert search_budget(lambda budget: math.inf, 20, 0.1) == pytest.approx(0.1)


def test_the_search_prefers_a_budget_that_was_seen_to_be_good():
    """Around the target every budget has its own luck, the same whenever it is asked for."""
    rng = np.random.default_rng(SEED)
    luck = {}

    def measure(budget):
        return 3 - 10 * math.log10(budget) + luck.setdefault(budget, rng.normal(0, 2))

    assert measure(search_budget(measure, target_db=20, start=0.5)) >= 20


def test_synthetic_inputs():
    details = [detail((1, 20, 30, 3)), detail((1, 7), np.int32), detail((1, 1, 4), np.float32, (-1, -1, 4))]
    sets = synthetic_inputs(details, num_samples=2)
    assert len(sets) == 4 and all(len(samples) == 2 for samples in sets)
    image, ids, sequence = sets[0][0]
    assert image.shape == (1, 20, 30, 3) and abs(image.std() - 1) < 1e-3
    assert np.mean(np.abs(np.diff(image, axis=1))) < 0.8, "smooth: neighbours are alike (white noise: 1.13)"
    assert ids.dtype == np.int32 and ids.min() >= 0 and ids.max() < 8
    assert sequence.shape == (1, 16, 4)
    assert 0 <= sets[1][0][0].min() and sets[1][0][0].max() <= 1 and sets[2][0][0].max() > 100
    again = synthetic_inputs(details, num_samples=2)
    assert np.array_equal(again[2][1][0], sets[2][1][0])


def test_scenes_are_areas_with_edges():
    """Neighbours nearly equal in most places and far apart in a few, unlike noise of the same power; grey on the whole."""
    details = [detail((1, 64, 64, 3))]
    scene, noise = (np.concatenate([sample[0] for sample in synthetic_inputs(details, 8, scenes=scenes)[0]]) for scenes in (True, False))
    steps = {name: np.abs(np.diff(images, axis=1)) for name, images in (("scene", scene), ("noise", noise))}
    assert np.median(steps["scene"]) < 0.05 < 0.1 < np.median(steps["noise"])
    assert np.percentile(steps["scene"], 97) > 0.5
    correlation = {name: np.corrcoef(images.reshape(-1, 3).T)[0, 1] for name, images in (("scene", scene), ("noise", noise))}
    assert 0.7 < correlation["scene"] < 0.98 and abs(correlation["noise"]) < 0.3
    assert len(synthetic_inputs([detail((1, 49, 10, 1))], 1)[0][0]) == 1, "spectra are too narrow for images and stay noise"


def test_ranges_are_rated_on_noise():
    """Scenes in the range 0 to 1 keep ReLUs as busy as wilder ones do."""

    class Image(Linear):
        def get_input_details(self):
            return [detail((1, 32, 32, 3))]

        def invoke(self):
            self.y = self.x.reshape(1, -1)[:, : len(self.matrix)] @ self.matrix

    rated = {}
    probe = Probe(Image, np.random.default_rng(SEED).standard_normal((64, 8)), rate=lambda sets: rated.update(sets) or {"0 to 1": 1.0})
    noise, scenes = rated["0 to 1"], probe._sets["0 to 1"][0]
    assert len(noise) == len(scenes) and np.median(np.abs(np.diff(noise[0][0], axis=1))) > 4 * np.median(np.abs(np.diff(scenes[0][0], axis=1)))
