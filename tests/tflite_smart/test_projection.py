"""`project`: the weights that conversion stores, in a Keras model, and training that goes on from there."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras and a backend are needed to train")
pytest.importorskip("tensorflow", reason="Keras and a backend are needed to train")

import tflite_smart as ts
from tflite_smart.methods import EntropyQuantize
from tflite_smart.runner import Runner

RECIPE = {"global_config": {"relative_error": 0.3, "buckets": "uniform"}, "min_weight_elements": 256}


@pytest.fixture(scope="module")
def model():
    """Batch normalization on both sides of zero, a depthwise filter, two layers of one shape, and one that is too small to pack."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, 4), name="image"), layers.Conv2D(32, 3, padding="same", use_bias=False, name="first"), layers.BatchNormalization(name="norm"), layers.ReLU(),
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"), layers.Conv2D(32, 1, name="second"), layers.Conv2D(32, 1, name="third"), layers.Conv2D(32, 1, name="fourth"),
        layers.GlobalAveragePooling2D(), layers.Dense(3, name="head"),
    ])  # fmt: skip
    rng = np.random.default_rng(2)
    model.get_layer("norm").set_weights([rng.uniform(0.5, 2, 32) * rng.choice([-1, 1], 32), rng.normal(size=32), rng.normal(size=32), rng.uniform(0.5, 2, 32)])
    return model


def outputs(path, x):
    runner = Runner(str(path))
    return next(iter(runner(runner.named({"image": x})).values()))


def test_projected_weights_are_those_of_the_file(model, rng, tmp_path):
    x = rng.random((8, 8, 8, 4), np.float32)
    before = model.get_weights()
    projected = ts.project(model, RECIPE)
    report = ts.convert(model, {**RECIPE, "bias_bits": 32}, output=tmp_path / "model.tflite")  # biases, into which normalisations go, are not projected
    np.testing.assert_allclose(projected(x), outputs(tmp_path / "model.tflite", x), rtol=1e-4, atol=1e-4)
    assert np.abs(projected(x) - model(x)).max() > 1e-2
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights()))
    changed = [layer.name for layer in model.layers if layer.get_weights() and not np.array_equal(layer.get_weights()[0], projected.get_layer(layer.name).get_weights()[0])]
    assert changed == ["first", "depthwise", "second", "third", "fourth"] and len(report.packed) == len(changed)


def test_training_goes_on_from_there(model, rng, tmp_path):
    """Before the first step nothing was rounded again, and in the end the file holds what was trained."""
    x, y = rng.random((16, 8, 8, 4), np.float32), rng.random((16, 3), np.float32)
    projected = ts.project(model, RECIPE)
    wrapped = ts.smart_wrap(projected, ts.WrapConfig(EntropyQuantize(keep_grid=True), min_weight_elements=256))
    assert np.array_equal(wrapped(x), projected(x))
    np.testing.assert_allclose(ts.strip(wrapped)(x), projected(x), rtol=1e-4, atol=1e-4)
    wrapped.compile(keras.optimizers.Adam(0.003), "mse", run_eagerly=True)
    wrapped.fit(x, y, batch_size=8, epochs=2, verbose=0)
    report = ts.convert(wrapped, {"min_weight_elements": 256, "bias_bits": 32}, output=tmp_path / "model.tflite")  # the others, and biases, were not trained on a grid
    assert len(report.packed) == 5 and max(row.relative_error for row in report.packed) < 1e-5
    np.testing.assert_allclose(outputs(tmp_path / "model.tflite", x), ts.strip(wrapped)(x), rtol=1e-4, atol=1e-4)


def test_loosened_weights_round_alike_and_lie_at_the_border(model):
    """Those that conversion rounded to the nearest step are the float model's; the others were rounded away from it and can't come nearer without another id."""
    projected = ts.project(model, RECIPE)
    wrapped = ts.smart_wrap(projected, ts.WrapConfig(EntropyQuantize(keep_grid=True), min_weight_elements=256))
    weights = [(weight, weight.raw.numpy(), weight.rounded(weight.raw.value).numpy()) for weight in ts.smart_weights(wrapped)]
    ts.loosen(wrapped, model)
    for (weight, before, rounded), target in zip(weights, [model.get_layer(name).get_weights()[0] for name in ("first", "depthwise", "second", "third", "fourth")]):
        loose = weight.raw.numpy()
        assert np.array_equal(weight.rounded(weight.raw.value), rounded)
        nearest = np.asarray(weight.rounded(target)) == rounded
        assert np.array_equal(loose[nearest], target[nearest]) and 0.5 < nearest.mean() < 1
        beyond = loose + 1e-3 * (target - before)
        assert not np.any((np.asarray(weight.rounded(beyond)) == rounded)[~nearest])


def test_a_recipe_that_packs_nothing(model):
    projected = ts.project(model, {"min_weight_elements": 10**6})
    assert projected is not model and all(np.array_equal(*pair) for pair in zip(projected.get_weights(), model.get_weights()))


@pytest.mark.parametrize("kind", ["wrapped", "unbuilt", "number"])
def test_errors(model, kind):
    made = {"wrapped": lambda: ts.smart_wrap(model, EntropyQuantize()), "unbuilt": lambda: keras.Sequential([keras.layers.Dense(3)]), "number": lambda: 3}[kind]()
    with pytest.raises(ts.TFLiteSmartError, match="model must be a built plain Keras 3 model. Received"):
        ts.project(made)


def test_loosen_wants_the_model_that_was_projected(model):
    wrapped = ts.smart_wrap(ts.project(model, RECIPE), ts.WrapConfig(EntropyQuantize(keep_grid=True), min_weight_elements=256))
    before = wrapped.get_weights()
    for pair, message in (((model, model), "wrapped must be a model that smart_wrap has wrapped"), ((wrapped, keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])), "Received: 1 weights beside 6"),
                          ((wrapped, 3), "wrapped and model must be built")):  # fmt: skip
        with pytest.raises(ts.TFLiteSmartError, match=message):
            ts.loosen(*pair)
    assert all(np.array_equal(*pair) for pair in zip(before, wrapped.get_weights()))
