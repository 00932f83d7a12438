"""What the training samples share: handwritten digits and the small CNN of tfmot's guides, trained once.

The images are those of MNIST where TFLITE_SMART_DATA (default `../shared/data`) has mnist.npz, else scikit-learn's, enlarged.
"""

import os
from pathlib import Path

from digits import OUT, SEED, quiet
from digits import data as small_digits

import numpy as np

NUM_TRAIN, NUM_TEST = 20_000, 5_000
DATA = Path(os.environ.get("TFLITE_SMART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns (x, y) for training and for testing; x is float32 `(n, 28, 28, 1)` in [0, 1]."""
    path = DATA / "mnist.npz"
    if path.exists():
        with np.load(path) as file:
            train, test = (file["x_train"][:NUM_TRAIN], file["y_train"][:NUM_TRAIN]), (file["x_test"][:NUM_TEST], file["y_test"][:NUM_TEST])
        return tuple(((x[..., None] / 255).astype(np.float32), y) for x, y in (train, test))
    return tuple((np.pad(x.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2), (0, 0))), y) for x, y in small_digits())


def trained_model():
    """Returns the trained model: from samples/out, or trained now, in a minute."""
    path = OUT / "mnist.keras"
    with quiet():
        import keras
        from keras import layers

        if path.exists():
            return keras.saving.load_model(path)
        keras.utils.set_random_seed(SEED)
        model = keras.Sequential([
            keras.Input((28, 28, 1), name="image"), layers.Conv2D(24, 3, use_bias=False, name="first"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(),
            layers.Conv2D(48, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(10),
        ])  # fmt: skip
        train(model, epochs=3)
    model.save(path)
    return model


def train(model, epochs: int, learning_rate: float = 1e-3, callbacks=()) -> None:
    """Compiles and fits, as one would without compression."""
    import keras

    (x, y), _ = data()
    model.compile(keras.optimizers.Adam(learning_rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], jit_compile=False)
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0, callbacks=list(callbacks))


def report(name: str, path: Path) -> None:
    """Prints size and accuracy of a .tflite, run through the delegate."""
    from tflite_smart.evaluate import evaluate
    from tflite_smart.runner import Runner

    _, (x, y) = data()
    print(f"{name:44} {path.stat().st_size:>9,} bytes   {evaluate(Runner(str(path)), x, y).top1:.2%} of {len(y)} digits right", flush=True)
