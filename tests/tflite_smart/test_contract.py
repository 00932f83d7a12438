"""What every compression method and every kind of model promises: one test for each promise, run for all of them."""

import os
import subprocess
import sys

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras and a backend are needed to train")
pytest.importorskip("tensorflow", reason="Keras and a backend are needed to train")

import tflite_smart as ts
from tflite_smart import schedules
from tflite_smart.methods import METHODS, Binarize, Cluster, Compressibility, EntropyQuantize, Prune, Quantize, SmartDeal, SmartDealCoefficients, Ternarize
from tflite_smart.wrap import smart_weights

SEED = 5
RAMP = schedules.PolynomialDecay(0.0, 0.75, begin_step=0, end_step=6, frequency=1)
# At least one of every method; a method that is missing here fails a test.
METHOD_LISTS = {
    "prune": [Prune(RAMP)],
    "prune 2:4": [Prune(0.5, group=4)],
    "prune blocks": [Prune(0.5, block=(4, 2))],
    "quantize": [Quantize(4)],
    "prune, quantize": [Prune(RAMP), Quantize(3)],
    "entropy quantize": [EntropyQuantize(1.0, keep_grid=True)],
    "binarize": [Binarize(anneal_steps=6)],
    "compressibility, ternarize": [Compressibility(0.01, ramp_steps=4), Ternarize()],
    "prune, cluster": [Prune(0.5), Cluster(8, per_channel=True, initial_centroids="density")],
    "smartdeal": [SmartDeal(fit_steps=1, project_steps=4)],
    "smartdeal coefficients": [SmartDealCoefficients(bar=3)],
}
# Those whose weights the converter can store exactly.
EXACT = {"quantize", "entropy_quantize", "binarize", "ternarize", "smartdeal", "smartdeal_coefficients"}


def data(count=16, size=6):
    rng = np.random.default_rng(SEED)
    return rng.random((count, size, size, 4), np.float32), rng.random((count, 3), np.float32)


def small_model():
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    return keras.Sequential([
        keras.Input((6, 6, 4), name="image"), layers.Conv2D(16, 3, use_bias=False, name="conv"), layers.BatchNormalization(), layers.ReLU(),
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"), layers.Flatten(),
        layers.Dense(24, activation="relu", name="hidden"), layers.Dense(3, name="head"),
    ])  # fmt: skip


def wrapped_model(methods, compiled=True):
    wrapped = ts.smart_wrap(small_model(), ts.WrapConfig(methods, min_weight_elements=64))
    if compiled:
        wrapped.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
        wrapped.optimizer.build(wrapped.trainable_variables)  # what creates variables is traced twice
    return wrapped


def train(model, epochs=4):
    x, y = data()
    keras.utils.set_random_seed(SEED)
    model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


def run(path, x):
    interpreter = ts.Interpreter(str(path))
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def every_method(function):
    return pytest.mark.parametrize("methods", METHOD_LISTS.values(), ids=METHOD_LISTS)(function)


def test_every_method_is_here():
    assert {method.name for methods in METHOD_LISTS.values() for method in methods} == set(METHODS)


@every_method
def test_method(methods, tmp_path):
    x, _ = data()
    model = small_model()
    before = model(x).numpy()
    wrapped = wrapped_model(methods)
    # Wrapping changes nothing.
    assert np.array_equal(wrapped(x), before) and type(wrapped) is type(model) and isinstance(wrapped.layers[0], keras.layers.Conv2D)
    assert [weight.weight_path for weight in smart_weights(wrapped)] == ["conv/kernel", "depthwise/kernel", "hidden/kernel", "head/kernel"]
    # Training trains, and the original stays as it was.
    train(wrapped)
    assert not np.array_equal(wrapped(x), before) and np.array_equal(model(x), before)
    assert [int(weight.step.numpy()) for weight in smart_weights(wrapped)] == [8] * 4
    # Saving and loading in mid-schedule: the same model, and the same model after more training.
    wrapped.save(tmp_path / "model.keras")
    loaded = ts.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(x), wrapped(x)) and [weight.methods for weight in smart_weights(loaded)] == [methods] * 4
    loaded.run_eagerly = True  # tracing takes longer than four steps
    train(wrapped, 2), train(loaded, 2)
    np.testing.assert_allclose(loaded(x), wrapped(x), rtol=1e-5, atol=1e-5)
    # The plain model computes the same, and so does the converted one up to the error that the recipe allows.
    plain = ts.strip(wrapped)
    assert not smart_weights(plain) and [type(layer) for layer in plain.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_allclose(plain(x), wrapped(x), rtol=1e-6, atol=1e-6)
    report = ts.convert(wrapped, recipe={"global_config": {"relative_error": 0.02}, "min_weight_elements": 64, "bias_bits": 32}, output=tmp_path / "model.tflite")
    assert len(report.packed) >= 2  # depthwise filter and head may be too small to gain
    exact = methods[-1].name in EXACT
    assert not exact or max(row.relative_error for row in report.packed) < 1e-5
    assert np.linalg.norm(run(tmp_path / "model.tflite", x) - plain(x)) < (1e-5 if exact else 0.1) * np.linalg.norm(plain(x))


class Subclassed(keras.Model):
    """Made of layers that it builds itself, with a training step of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.stem = keras.Sequential([keras.layers.Conv2D(8, 3), keras.layers.Flatten()])
        self.head = keras.layers.Dense(3)

    def call(self, x):
        return self.head(self.stem(x))

    def train_step(self, data):
        import tensorflow as tf

        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


def subclassed():
    model = Subclassed()
    model(data()[0])
    return model


def nested_and_shared():
    layers = keras.layers
    block = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(4, 3, padding="same")], name="block")
    inner_in = keras.Input((6, 6, 4))
    inner = keras.Model(inner_in, layers.Conv2D(8, 3, name="deep")(block(inner_in)), name="inner")
    image, other = keras.Input((6, 6, 4), name="image"), keras.Input((6, 6, 4), name="other")
    shared = layers.Dense(8, name="shared")
    x = layers.Concatenate()([shared(inner(image)), shared(inner(other))])
    return keras.Model({"image": image, "other": other}, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def all_layers():
    layers = keras.layers
    image = keras.Input((6, 6, 4))
    x = layers.SeparableConv2D(8, 3, padding="same")(image)
    x = layers.Conv2DTranspose(8, 3, padding="same")(x)
    x = layers.Conv1D(8, 3)(layers.Reshape((36, 8))(x))
    x = layers.Conv3D(4, 2)(layers.Reshape((17, 2, 2, 4))(x))
    x = layers.EinsumDense("abcde,ef->abcdf", (16, 1, 1, 4))(x)
    x = layers.MultiHeadAttention(2, 8)(layers.Reshape((16, 4))(x), layers.DepthwiseConv1D(1, depth_multiplier=2)(layers.Reshape((16, 4))(x)))
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(layers.Reshape((2, 32))(x))
    x = layers.SimpleRNN(6)(layers.GRU(6, return_sequences=True)(x))
    return keras.Model(image, layers.TimeDistributed(layers.Dense(3))(layers.Reshape((1, 6))(x)))


@pytest.mark.parametrize("build", [subclassed, nested_and_shared, all_layers])
def test_kinds_of_models(build, tmp_path):
    keras.utils.set_random_seed(SEED)
    model, (x, y) = build(), data(8)
    x = {"image": x, "other": x[::-1]} if build is nested_and_shared else x
    y = y[:, None] if build is all_layers else y
    before = np.asarray(model(x))
    wrapped = ts.smart_wrap(model, ts.WrapConfig(Prune(0.75), min_weight_elements=12))
    assert np.array_equal(wrapped(x), before) and isinstance(wrapped, type(model))
    wrapped.compile("adam", "mse", run_eagerly=True)  # tracing takes longer than two steps
    for _ in range(2):
        wrapped.train_on_batch(x, y)
    assert np.array_equal(model(x), before)
    names = [weight.weight_path for weight in smart_weights(wrapped)]
    assert len(names) == len(set(names)) == {subclassed: 2, nested_and_shared: 4, all_layers: 19}[build], names
    assert {int(weight.step.numpy()) for weight in smart_weights(wrapped)} == {2}
    plain = ts.strip(wrapped)
    np.testing.assert_allclose(plain(x), wrapped(x), rtol=1e-5, atol=1e-6)
    assert sum(np.mean(value == 0) > 0.7 for value in plain.get_weights() if value.ndim > 1) == len(names)
    wrapped.save(tmp_path / "model.keras")
    loaded = ts.load_model(tmp_path / "model.keras", custom_objects={"Subclassed": Subclassed})
    np.testing.assert_allclose(loaded(x), wrapped(x), rtol=1e-5, atol=1e-6)
    assert len(smart_weights(loaded)) == len(names)


@pytest.mark.parametrize("jit", [True, False], ids=["jit_compile", "graph"])
def test_mixed_precision_and_xla(jit):
    """Methods compute in float32, layers in half precision."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        wrapped = wrapped_model([Prune(RAMP)], compiled=False)
    finally:
        keras.config.set_dtype_policy("float32")
    wrapped.compile("sgd", "mse", jit_compile=jit)
    train(wrapped)
    weight = smart_weights(wrapped)[0]
    assert weight.raw.dtype == "float32" and weight.effective().dtype == "float32" and wrapped.get_layer("conv").kernel.dtype == "float16"
    assert int(weight.step.numpy()) == 8 and abs(np.mean(weight.finish().weight == 0) - 0.75) < 0.01


def test_interrupted_training_goes_on_where_it_stopped(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    x, y = data()
    straight, interrupted, resumed = models = [wrapped_model([Prune(RAMP)]) for _ in range(3)]
    for model in models:
        model.run_eagerly = True  # tracing takes longer than eight steps
    train(straight, 4)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Stop()])
    resumed.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert [int(weight.step.numpy()) for weight in smart_weights(resumed)] == [8] * 4
    np.testing.assert_allclose(resumed(x), straight(x), rtol=1e-4, atol=1e-5)


def test_two_replicas_stay_equal():
    """Runs in a process of its own: logical devices must be set before TensorFlow starts."""
    program = """
import numpy as np, tensorflow as tf, keras, tflite_smart as ts
from tflite_smart.methods import Prune
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
keras.utils.set_random_seed(5)
with strategy.scope():
    wrapped = ts.smart_wrap(keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(4)]), ts.WrapConfig(Prune(0.5), min_weight_elements=16))
    wrapped.compile("adam", "mse")
wrapped.fit(np.random.rand(16, 8), np.random.rand(16, 4), batch_size=8, epochs=2, verbose=0)
for weight in ts.smart_weights(wrapped):
    variables = [weight.raw, weight.step, *weight.variables]
    values = [[np.asarray(copy) for copy in strategy.experimental_local_results(variable.value)] for variable in variables]
    assert all(len(copies) == 2 and np.array_equal(*copies) for copies in values)
    print(int(weight.step.numpy()), np.mean(weight.finish().weight == 0))
"""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["4", "0.5"] * 2


def test_a_layer_that_can_not_be_wrapped_is_named():
    class Own(keras.layers.Layer):
        def build(self, shape):
            self.matrix = self.add_weight(shape=(shape[-1], 64))

        def call(self, x):
            return x @ self.matrix

    model = keras.Sequential([keras.Input((16,)), Own(name="mine"), keras.layers.Dense(16)])
    with pytest.warns(UserWarning, match="smart_wrap left alone: mine/.*made by Own itself"):
        assert len(smart_weights(ts.smart_wrap(model, Prune(0.5)))) == 1


def test_what_the_caller_did_to_the_weight_stays():
    """Constraints, regularizers and frozen layers of the model."""
    layer = keras.layers.Dense(32, kernel_constraint="non_neg", kernel_regularizer=keras.regularizers.L2(0.5))
    frozen = keras.layers.Dense(32, trainable=False)
    wrapped = ts.smart_wrap(keras.Sequential([keras.Input((32,)), layer, frozen]), Prune(0.5))
    wrapped.compile("sgd", "mse")
    kernel, before = wrapped.layers[0].kernel, wrapped.layers[1].get_weights()
    np.testing.assert_allclose(wrapped.losses[0], 0.5 * np.sum(np.square(kernel)), rtol=1e-5)
    wrapped.fit(np.ones((8, 32)), np.zeros((8, 32)), verbose=0)
    assert (wrapped.layers[0].kernel.numpy() >= 0).all()
    assert all(np.array_equal(*pair) for pair in zip(before, wrapped.layers[1].get_weights()))


@pytest.mark.parametrize(
    ("model", "recipe", "words"),
    [
        ("plain", {"global_config": None, "op_type_configs": {"Conv9D": None}}, "Conv9D"),
        ("plain", {"op_name_configs": {"^tail/": None}}, "matches none"),
        ("plain", {"op_name_configs": {"(": None}}, "regular expressions"),
        ("plain", {"everything": None}, "everything"),
        ("plain", {"name": "prun"}, "name must be one of binarize, .*Received: name='prun'"),
        ("plain", "recipe.yaml", "recipe must be"),
        ("wrapped", [Prune(0.5)], "must be plain"),
        ("unbuilt", [Prune(0.5)], "not built"),
        ("no model", [Prune(0.5)], "Received: int"),
    ],
)
def test_errors(model, recipe, words):
    made = {"plain": small_model, "wrapped": lambda: wrapped_model([Prune(0.5)]), "unbuilt": lambda: keras.Sequential([keras.layers.Dense(3)]), "no model": lambda: 3}[model]()
    with pytest.raises(ts.TFLiteSmartError, match=words):
        ts.smart_wrap(made, recipe)


def test_recipes_choose_by_class_and_name():
    recipe = {"global_config": {"name": "prune", "sparsity": 0.5}, "op_type_configs": {"Dense": {"name": "prune", "sparsity": 0.25}}, "op_name_configs": {"^head/": None}, "min_weight_elements": 64}
    chosen = {weight.weight_path: weight.methods[0].sparsity.target_sparsity for weight in smart_weights(ts.smart_wrap(small_model(), recipe))}
    assert chosen == {"conv/kernel": 0.5, "depthwise/kernel": 0.5, "hidden/kernel": 0.25}


def test_summary_and_logs(tmp_path, capsys):
    x, y = data()
    wrapped = wrapped_model([Prune(0.5), Quantize(4)])
    history = wrapped.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[ts.CompressionLog(), keras.callbacks.CSVLogger(tmp_path / "log.csv")]).history
    assert abs(history["sparsity/conv/kernel"][-1] - np.mean(ts.strip(wrapped).get_weights()[0] == 0)) < 1e-6
    assert 0.5 < history["bits/hidden/kernel"][-1] < 4 and 0 < history["error/head/kernel"][-1] < 1
    assert {"sparsity/conv/kernel", "bits/hidden/kernel"} <= set((tmp_path / "log.csv").read_text().splitlines()[0].split(","))
    ts.summary(wrapped)
    printed = capsys.readouterr().out
    assert "depthwise/kernel" in printed and "prune, quantize" in printed


def test_without_this_package_keras_says_what_to_load_with(tmp_path, monkeypatch):
    wrapped_model([Quantize(4)]).save(tmp_path / "model.keras")
    monkeypatch.setattr("keras.src.saving.object_registration.GLOBAL_CUSTOM_OBJECTS", {})  # as if nothing of ours had been imported
    with pytest.raises((TypeError, ValueError), match="load_with.*tflite_smart.load_model"):
        keras.saving.load_model(tmp_path / "model.keras")
