"""The Lagrangian against what it must equal on the textbook's law, and against other ways to spend the same bits."""

import numpy as np
import pytest

from tflite_smart.converter.allocate import LayerFacts, Skip, WeightInfo, allocate
from tflite_smart.converter.compress import TensorSettings
from tflite_smart.converter.rate_distortion import Curve, count
from tflite_smart.converter.recipe import SmartConfig, WeightConfig

SEED = 5
GRID_DB = 0.25  # distance of two points of a curve, in noise


def info(elements, name="w", dtype="float32"):
    return WeightInfo((name,), "FULLY_CONNECTED", (elements // 8, 8), 0, dtype)


def law(bits_at_1=1.0):
    """6 dB per bit."""
    asked = np.geomspace(0.003, 0.7, 200)
    return Curve(asked, bits_at_1 - np.log2(asked), asked**2)


def noise(facts, settings):
    return sum(fact.sensitivity * fact.curve.noise_at(s.relative_error) for fact, s in zip(facts, settings))


def bits(weights, facts, settings):
    return sum(w.num_elements * np.interp(np.log(s.relative_error), np.log(f.curve.asked), f.curve.bits) for w, f, s in zip(weights, facts, settings))


def test_on_the_textbooks_law_noise_goes_by_size_over_sensitivity():
    weights = [info(80_000), info(8_000), info(800)]
    facts = [LayerFacts(law(), s) for s in (0.2, 1.0, 3.0)]
    settings = allocate(weights, SmartConfig(error_budget=0.004), facts)
    total = sum(w.num_elements for w in weights)
    for weight, fact, setting in zip(weights, facts, settings):
        expected = 0.004 * weight.num_elements / (total * fact.sensitivity)
        assert 10 * np.log10(setting.relative_error**2 / expected) == pytest.approx(0, abs=GRID_DB)
    assert 10 * np.log10(noise(facts, settings) / 0.004) == pytest.approx(0, abs=GRID_DB)


@pytest.mark.parametrize(("elements", "sensitivity", "stays"), [(400, 3e4, True), (400, 3.0, False), (800, 3e4, False)])
def test_a_small_layer_stays_in_floats_where_its_noise_alone_would_be_too_much(elements, sensitivity, stays):
    weights, facts = [info(80_000), info(elements)], [LayerFacts(law(), 1.0), LayerFacts(law(), sensitivity)]
    large, small = allocate(weights, SmartConfig(error_budget=0.004), facts)
    assert isinstance(large, TensorSettings) and isinstance(small, Skip if stays else TensorSettings)
    assert not stays or "8-bit ids would add more noise" in small.reason


def test_no_other_mix_of_the_same_bits_has_less_noise():
    rng = np.random.default_rng(SEED)
    weights = [info(n) for n in (2048, 16384, 4096, 65536)]
    # Channels of very different size, so that the curves are not the textbook's.
    values = [rng.laplace(size=(n // 8, 8)) * np.exp(rng.normal(0, spread, (n // 8, 1))) for n, spread in zip((2048, 16384, 4096, 65536), (0, 1, 2, 3))]
    facts = [LayerFacts(count(v.astype(np.float32), 0, TensorSettings(channel_exponent=0.75)), s) for v, s in zip(values, (2.0, 0.1, 1.0, 0.01))]
    settings = allocate(weights, SmartConfig(error_budget=0.003), facts)
    best, spent = noise(facts, settings), bits(weights, facts, settings)
    tried = 0
    for _ in range(2000):
        errors = [s.relative_error * np.exp(rng.normal(0, 0.3)) for s in settings]
        other = [WeightConfig(relative_error=min(max(e, 0.003), 0.7)) for e in errors]
        if bits(weights, facts, other) <= spent:
            tried += 1
            assert noise(facts, other) >= best * 10 ** (-GRID_DB / 10)
    assert tried > 100


def test_weights_with_a_fixed_error_and_integers_take_no_share():
    weights = [info(800), info(800, "fixed"), info(800, dtype="int8")]
    config = SmartConfig(error_budget=0.01, op_name_configs={"fixed": WeightConfig(relative_error=0.3)})
    free, fixed, integer = allocate(weights, config, [LayerFacts(law(), 1.0), None, None])
    assert free.relative_error == pytest.approx(0.1, rel=0.03) and fixed.relative_error == 0.3 and integer.buckets == "integer"


def test_curves_of_gaussian_weights_follow_the_law():
    values = np.random.default_rng(SEED).standard_normal((64, 2048)).astype(np.float32)
    curve = count(values, 0, TensorSettings("dependent", channel_exponent=0.75))
    fine = (curve.asked > 0.015) & (curve.asked < 0.1)  # finer ones meet the 8 bits of an id
    assert np.allclose(curve.noise[fine], curve.asked[fine] ** 2, rtol=0.03)
    # Uniform rounding of a Gaussian: entropy h(x) - log2(step), step = sqrt(12) * error.
    assert np.allclose(curve.bits[fine], 0.5 * np.log2(2 * np.pi * np.e / 12) - np.log2(curve.asked[fine]), atol=0.03)
    assert np.all(np.diff(curve.bits) <= 0) and np.all(np.diff(curve.noise) >= 0)


def test_steps_wider_than_most_weights_cost_what_feedback_does_with_them():
    """Feedback keeps the output going: weights are rounded up that plain rounding loses, and where nearly all are 0 every bit bought less."""
    values = np.random.default_rng(SEED).standard_normal((64, 256)).astype(np.float32)
    plain, fed_back = (count(values, 0, TensorSettings(taps=taps)) for taps in (None, (1, 1)))
    fine, coarse = plain.asked < 0.2, plain.asked > 1.5
    assert np.array_equal(plain.bits[fine], fed_back.bits[fine]) and np.array_equal(plain.noise[fine], fed_back.noise[fine])
    assert np.all(fed_back.bits[coarse] > 1.5 * plain.bits[coarse]) and np.all(fed_back.noise[coarse] > 1.05 * plain.noise[coarse])


def test_faint_channels_stop_costing_bits():
    """Half of the channels 1,000 times fainter: with one absolute step they vanish, and the noise stays below what was asked for."""
    values = np.random.default_rng(SEED).standard_normal((64, 512)).astype(np.float32)
    values[::2] /= 1000
    curve = count(values, 0, TensorSettings(channel_exponent=0.0))
    at = np.searchsorted(curve.asked, 0.1)
    assert curve.noise[at] < 0.6 * curve.asked[at] ** 2
    assert curve.bits[at] < 0.8 * (0.5 * np.log2(2 * np.pi * np.e / 12) - np.log2(curve.asked[at]))
