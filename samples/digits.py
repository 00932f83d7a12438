"""What the samples share: scikit-learn's bundled handwritten digits and a small Keras 3 CNN that reads them.

Everything made here lies in samples/out and is made once.
"""

from contextlib import contextmanager
import os
from pathlib import Path
import sys

# Before TensorFlow is imported: its start-up notes have nothing to do with these samples.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
from sklearn.datasets import load_digits

OUT = Path(__file__).resolve().parent / "out"
SEED = 7
NUM_TEST = 500


@contextmanager
def quiet():
    """Sends what TensorFlow's libraries print (missing GPUs, temporary paths) to samples/out/tensorflow.log."""
    OUT.mkdir(exist_ok=True)
    sys.stdout.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with open(OUT / "tensorflow.log", "a") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        for stream, copy in zip((1, 2), kept):
            os.dup2(copy, stream)
            os.close(copy)


def data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns (x, y) for training, 1297 images, and for testing, 500; x is float32 `(n, 8, 8, 1)` in [0, 1]."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    x = (digits.images[order] / 16).astype(np.float32)[..., None]
    y = digits.target[order]
    return (x[:-NUM_TEST], y[:-NUM_TEST]), (x[-NUM_TEST:], y[-NUM_TEST:])


def build():
    """Returns the untrained CNN, 294,186 weights."""
    import keras
    from keras import layers

    def block(x, filters: int):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    inputs = keras.Input((8, 8, 1), name="image")
    x = block(block(inputs, 32), 64)
    x = block(layers.MaxPooling2D()(x), 128)
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    x = layers.Dropout(0.3)(layers.Dense(384, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="digits")


def trained_model():
    """Returns the trained model: from samples/out, or trained now, in well under a minute."""
    path = OUT / "digits.keras"
    with quiet():
        import keras

        if path.exists():
            return keras.saving.load_model(path)
        keras.utils.set_random_seed(SEED)
        model = build()
    (x, y), _ = data()
    print(f"training {model.count_params():,} weights on {len(x)} images ...", flush=True)
    epochs, batch_size = 20, 64
    with quiet():
        schedule = keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(x) // batch_size))
        model.compile(optimizer=keras.optimizers.Adam(schedule), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)
    model.save(path)
    return model


def tflite(kind: str = "float") -> Path:
    """Returns the path of the model as TensorFlow's converter writes it.

    Args:
        kind: `float` or `int8` (full integer, calibrated on 200 training images).
    """
    path = OUT / f"digits_{kind}.tflite"
    if path.exists():
        return path
    model = trained_model()
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind == "int8":
        (x, _), _ = data()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in x[:200])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with quiet():
        content = converter.convert()
    path.write_bytes(content)
    return path
