"""What wrapping costs a training step: median time of `train_on_batch`, plain and wrapped in turn, and their ratio.

    python tests/bench/training_step.py [MODEL.keras] [--batch-size 32] [--rounds 15] [--recipes PATTERN]

Without a model a ResNet56 for 32 x 32 images with random weights. A benchmark, no test: nothing passes or fails.
"""

import argparse
import re
import statistics
import time

import numpy as np


def resnet56():
    """He et al., arXiv:1512.03385, section 4.2: 9 blocks of two 3x3 convolutions at each of three sizes."""
    import keras
    from keras import layers

    def convolution(x, filters, strides):
        return layers.BatchNormalization()(layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x))

    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(convolution(image, 16, 1))
    for filters in (16, 32, 64):
        for block in range(9):
            strides = 2 if filters > 16 and block == 0 else 1
            skip = x if strides == 1 else layers.Conv2D(filters, 1, 2)(x)
            y = convolution(layers.ReLU()(convolution(x, filters, strides)), filters, 1)
            x = layers.ReLU()(layers.Add()([y, skip]))
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)), name="resnet56")


def recipes() -> dict:
    """What is measured, by name."""
    from tflite_smart import WrapConfig, schedules
    from tflite_smart.methods import Prune, Quantize

    pruning = Prune(schedules.PolynomialDecay(0.0, 0.9, 0, 1000))
    return {
        "pruning": WrapConfig(pruning),
        "4-bit weights": WrapConfig(Quantize(4)),
        "8-bit weights and activations": WrapConfig(Quantize(8), activation_bits=8),
        "pruned 4-bit weights, 8-bit activations": WrapConfig([pruning, Quantize(4)], activation_bits=8),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--recipes", default="", metavar="PATTERN", help="regular expression of the recipes to measure (default: all)")
    arguments = parser.parse_args()
    import keras

    import tflite_smart as ts

    plain = keras.saving.load_model(arguments.model, compile=False) if arguments.model else resnet56()
    models = {"plain": plain, **{name: ts.smart_wrap(plain, recipe) for name, recipe in recipes().items() if re.search(arguments.recipes, name)}}
    rng = np.random.default_rng(1)
    x = rng.random((arguments.batch_size, *plain.input_shape[1:]), np.float32)
    y = rng.integers(0, plain.output_shape[-1], arguments.batch_size)
    times = {name: [] for name in models}
    for model in models.values():
        model.compile(keras.optimizers.SGD(0.01, 0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        model.train_on_batch(x, y)  # traces
    for _ in range(arguments.rounds):
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(x, y)
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["plain"])
    print(f"{plain.name}, batches of {arguments.batch_size}, median of {arguments.rounds} steps in turn")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:42} {1000 * median:8.0f} ms {median / base:6.2f}x")


if __name__ == "__main__":
    main()
