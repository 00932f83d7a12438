"""Activations are rounded where TFLite rounds them, and the integer-only model computes what the trained one did."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras and a backend are needed to train")
pytest.importorskip("tensorflow", reason="Keras and a backend are needed to train")

from ai_edge_litert import schema_py_generated as schema

import tflite_smart as ts
from tests.tflite_smart.integers import run_integers
from tflite_smart.activations import WARM_UP_BATCHES, SmartRange, places
from tflite_smart.converter.model_editor import Model
from tflite_smart.methods import Prune, Quantize, SmartDeal
from tflite_smart.wrap import smart_ranges

SEED = 3


def image_model():
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.BatchNormalization(name="bn1")(layers.Conv2D(24, 3, padding="same", use_bias=False, name="conv")(image))
    x = skip = layers.ReLU(name="relu1")(x)
    x = layers.BatchNormalization(name="bn2")(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    x = layers.ReLU(6.0, name="relu2")(layers.Add(name="add")([x, skip]))
    x = layers.Conv2D(40, 3, activation="relu", name="conv2")(layers.MaxPooling2D(name="pool")(x))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="head")(x))


def data():
    rng = np.random.default_rng(SEED)
    x = rng.uniform(-1, 1, (128, 8, 8, 3)).astype(np.float32)
    return x, rng.integers(0, 10, 128)


def trained(methods, ranges="moving_average"):
    x, y = data()
    wrapped = ts.smart_wrap(image_model(), ts.WrapConfig(methods, min_weight_elements=64, activation_bits=8, activation_ranges=ranges))
    assert np.array_equal(wrapped(x), image_model()(x))
    wrapped.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    wrapped.fit(x, y, batch_size=32, epochs=3, verbose=0)
    return wrapped


def test_places():
    model = image_model()
    found = {layer.name: places(model).get(id(layer)) for layer in model.layers}
    fixed = {"output": (0.0, 255 / 256), "before_activation": None}
    rounded = {"conv": {"input": None}, "relu1": {"output": None}, "bn2": {"output": None}, "relu2": {"output": None}, "conv2": {"output": None}, "mean": {"output": None}, "head": fixed}
    assert {name: where for name, where in found.items() if where} == rounded


@pytest.mark.parametrize(
    ("methods", "ranges"),
    [([Quantize(8)], "moving_average"), ([Quantize(4)], "learned"), ([Prune(0.5), Quantize(3)], "moving_average")],
    ids=["8 bits", "4 bits, learned ranges", "pruned 3 bits"],
)
def test_the_integer_model_computes_what_was_trained(methods, ranges, tmp_path):
    wrapped, (x, _) = trained(methods, ranges), data()
    wrapped.save(tmp_path / "model.keras")
    loaded = ts.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(x), wrapped(x)) and [one.kind for one in smart_ranges(loaded)] == [one.kind for one in smart_ranges(wrapped)]
    report = ts.convert(loaded, {"min_weight_elements": 64}, output=tmp_path / "model.tflite")
    assert not report.notes or "nothing was packed" in report.notes[0]
    plain = ts.strip(wrapped)
    assert not smart_ranges(plain) and np.linalg.norm(plain(x) - wrapped(x)) < 0.2 * np.linalg.norm(wrapped(x))
    # Integers alone; a quarter of the outputs of the softmax may be one step of 1/256 off, from roundings that fall on the other side.
    types = {tensor.type for graph in Model.read(str(tmp_path / "model.tflite")).schema.subgraphs for tensor in graph.tensors}
    assert types <= {schema.TensorType.INT8, schema.TensorType.INT32, schema.TensorType.UINT8, schema.TensorType.FLOAT32 if report.packed else schema.TensorType.INT8}
    outputs, scale, zero_point = run_integers(tmp_path / "model.tflite", x)
    steps = np.abs(outputs - zero_point - np.rint(wrapped(x).numpy() / scale))
    assert steps.max() <= 2 and steps.mean() < 0.25
    # The weights are the trained ids: 40 channels of 216 weights take no more than their bits.
    conv2 = next(row for row in report.rows if "conv2" in row.layer)
    if methods[-1].bits < 8:
        assert conv2.value_kind == "integer" and conv2.bits_per_weight < methods[-1].bits + 0.5


def test_convolution_with_relu_before_batch_normalization(tmp_path):
    """tfmot refuses this pattern."""
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(24, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten(), layers.Dense(10)])
    wrapped = ts.smart_wrap(model, ts.WrapConfig(Quantize(4), activation_bits=8))
    wrapped.compile("adam", "mse", jit_compile=False)
    x, y = data()
    wrapped.fit(x, np.eye(10)[y], verbose=0)
    report = ts.convert(wrapped, {"min_weight_elements": 64}, output=tmp_path / "model.tflite")
    assert any(row.value_kind == "integer" for row in report.packed)
    outputs, scale, zero_point = run_integers(tmp_path / "model.tflite", x)
    assert np.abs((outputs - zero_point) * scale - wrapped(x)).max() <= 3 * scale


class Residual(keras.Model):
    """A block that adds without a layer."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = (keras.layers.Conv2D(16, 3, padding="same", name=name) for name in ("first", "second"))
        self.tail = keras.Sequential([keras.layers.ReLU(), keras.layers.Flatten(), keras.layers.Dense(10)], name="tail")

    def call(self, x, training=None):
        x = self.first(x)
        return self.tail(keras.ops.add(x, self.second(x)))


def test_a_subclassed_model_becomes_integers(tmp_path):
    keras.utils.set_random_seed(SEED)
    model, (x, y) = Residual(), data()
    model(x)
    wrapped = ts.smart_wrap(model, ts.WrapConfig(Quantize(4), min_weight_elements=64, activation_bits=8, activation_ranges="learned"))
    assert np.array_equal(wrapped(x), model(x)) and len(smart_ranges(wrapped)) == 6  # image, both convolutions, what the nested model reads, ReLU, scores
    with pytest.raises(ts.TFLiteSmartError, match="ranges of activations must be known from training"):
        ts.convert(wrapped, output=tmp_path / "model.tflite")
    wrapped.compile("adam", "mse", jit_compile=False)
    wrapped.fit(x, np.eye(10)[y], batch_size=32, epochs=2, verbose=0)
    wrapped.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"Residual": Residual})
    assert np.array_equal(loaded(x), wrapped(x))
    report = ts.convert(loaded, {"min_weight_elements": 64}, output=tmp_path / "model.tflite")
    assert any(row.value_kind == "integer" for row in report.packed)
    outputs, scale, zero_point = run_integers(tmp_path / "model.tflite", x)
    assert np.abs((outputs - zero_point) * scale - wrapped(x)).max() <= 3 * scale


def test_learned_bounds_follow_what_they_clip():
    """A bound that clips moves against the gradient of what it clips, one that does not stays; before, the range is a moving average."""
    import tensorflow as tf

    learned, x = SmartRange("output", "learned"), np.linspace(-1, 3, 64, dtype=np.float32)[None]
    for _ in range(WARM_UP_BATCHES):
        learned(x, training=True)
    np.testing.assert_allclose([float(bound) for bound in learned.bounds()], [-1, 3], rtol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(learned(2 * x, training=True))
    low, high = tape.gradient(loss, [learned.low.value, learned.high.value])
    # 16 of the 64 lie below -1 and 16 above 3; each pulls by 1 / sqrt(255 * 64).
    np.testing.assert_allclose([low, high], [np.sum(2 * x < -1) / np.sqrt(255 * 64), np.sum(2 * x > 3) / np.sqrt(255 * 64)], rtol=1e-5)
    assert float(learned.bounds()[1]) == 3


def test_without_a_graph_there_is_no_place_and_it_is_said():
    class Own(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = keras.layers.Dense(64)

        def call(self, x):
            return self.dense(x if x.numpy().any() else -x)

    model = Own()
    model(np.ones((1, 16)))
    with pytest.warns(UserWarning, match="all activations"):
        wrapped = ts.smart_wrap(model, ts.WrapConfig(Quantize(8), activation_bits=8))
    assert len(ts.smart_weights(wrapped)) == 1


@pytest.mark.parametrize(
    ("methods", "options", "words"),
    [
        (Quantize(8), {"activation_bits": 4}, "activation_bits must be 8"),
        (Quantize(8), {"activation_bits": 8, "activation_ranges": "best"}, "activation_ranges must be one of moving_average, learned"),
        (None, {"activation_bits": 8, "op_type_configs": {"Dense": SmartDeal()}}, "activation_bits must be null beside smartdeal"),
    ],
)
def test_errors(methods, options, words):
    with pytest.raises(ts.TFLiteSmartError, match=words):
        ts.WrapConfig(methods, **options)
