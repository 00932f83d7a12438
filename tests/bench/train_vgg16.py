"""Trains a narrow VGG16 on CIFAR-10: the network of the table in codec_table.py on which the literature's VGG16 ratios can be checked.

    python tests/bench/train_vgg16.py FOLDER [--width 0.25] [--epochs 20]

VGG16's thirteen convolutions, with batch normalisation as is usual on CIFAR-10, each `width` times as wide as the original (64 to 512), and one dense layer. At a quarter of
the width it has 0.93 million weights instead of 14.7 and an epoch takes some minutes of one core. Images: `cifar10_train.tar.xz` of TFLITE_SMART_DATA. FOLDER keeps the
unpacked images and a checkpoint after every epoch: the same command goes on where it was stopped. Writes FOLDER/vgg16.tflite (input: normalised as for
cifar10_resnet56) after every epoch.
"""

import argparse
import os
from pathlib import Path
import sys
import tarfile

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests import cifar  # noqa: E402

SEED = 7
BATCH = 128
PEAK_RATE, DECAY, MOMENTUM = 0.1, 5e-4, 0.9
LAYERS = (64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512)  # None halves the image


def train_images(folder: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images `(50000, 32, 32, 3)` and labels, unpacked once."""
    cache = folder / "cifar10_train.npz"
    if not cache.exists():
        images, labels = cifar.load_images(data / "cifar10_train.tar.xz")
        np.savez(cache, x=images, y=labels)
    with np.load(cache) as file:
        return file["x"], file["y"]


def build(width: float):
    import keras
    from keras import layers

    regularizer = keras.regularizers.L2(DECAY)
    x = inputs = keras.Input((32, 32, 3))
    for filters in LAYERS:
        if filters is None:
            x = layers.MaxPooling2D()(x)
            continue
        x = layers.Conv2D(round(filters * width), 3, padding="same", use_bias=False, kernel_initializer="he_normal", kernel_regularizer=regularizer)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, kernel_regularizer=regularizer)(x), name="vgg16")


def batches(images: np.ndarray, labels: np.ndarray, epoch: int):
    """One epoch of shuffled batches, mirrored and shifted by up to 4 pixels; the same ones whenever that epoch is run."""
    rng = np.random.default_rng([SEED, epoch])
    order = rng.permutation(len(images))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        batch = np.pad(cifar.normalized(images[chosen]), ((0, 0), (4, 4), (4, 4), (0, 0)))
        down, right = rng.integers(0, 9, 2)
        batch = batch[:, down : down + 32, right : right + 32]
        mirrored = rng.random(len(batch)) < 0.5
        batch[mirrored] = batch[mirrored, :, ::-1]
        yield batch, labels[chosen]


def rate(step: float) -> float:
    """One cycle: up over the first fifth, down to nothing over the rest; `step` in [0, 1]."""
    return PEAK_RATE * min(step / 0.2, (1 - step) / 0.8)


def train(folder: Path, data: Path, width: float, epochs: int) -> None:
    import keras
    import tensorflow as tf

    checkpoint = folder / "vgg16.keras"
    images, labels = train_images(folder, data)
    test_images, test_labels = cifar.load_test_images(data)
    if checkpoint.exists():
        model = keras.models.load_model(checkpoint)
    else:
        keras.utils.set_random_seed(SEED)
        model = build(width)
        model.compile(keras.optimizers.SGD(0.0, MOMENTUM, nesterov=True), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    steps = len(images) // BATCH
    for epoch in range(int(model.optimizer.iterations.numpy()) // steps, epochs):
        for number, (x, y) in enumerate(batches(images, labels, epoch)):
            model.optimizer.learning_rate = rate((epoch + number / steps) / epochs)
            loss, accuracy = model.train_on_batch(x, y)
        scores = np.concatenate([model.predict_on_batch(cifar.normalized(test_images[i : i + 250])) for i in range(0, len(test_images), 250)])
        print(f"epoch {epoch + 1}/{epochs}: loss {loss:.3f}, top-1 {accuracy:.4f} in training, {np.mean(scores.argmax(1) == test_labels):.4f} on the test images", flush=True)
        _replace(checkpoint, model.save)
        content = tf.lite.TFLiteConverter.from_keras_model(keras.Model(model.inputs, model.outputs)).convert()
        _replace(folder / "vgg16.tflite", lambda path: Path(path).write_bytes(content))


def _replace(path: Path, write) -> None:
    temporary = path.with_name("new_" + path.name)
    write(temporary)
    os.replace(temporary, path)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    train(options.folder, cifar.data_folder(), options.width, options.epochs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
