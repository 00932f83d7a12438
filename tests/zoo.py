"""The models that users bring, built with Keras: what the zoo tests and the zoo table run.

`small` versions are the same architectures with narrower inputs or fewer channels, for tests. Weights are random unless a model trains in seconds; every batch
normalization gets random statistics, so that folding it scales every channel differently, as in a trained model.
"""

from collections.abc import Callable

import numpy as np

SEED = 7


def applications(small: bool) -> dict[str, Callable]:
    """Keras applications by name."""
    import keras

    app = keras.applications
    size = 64 if small else 224
    shape = (size, size, 3)
    large = (96, 96, 3) if small else (299, 299, 3)
    options = {"weights": None, "input_shape": shape, "classes": 100 if small else 1000}
    return {
        "MobileNetV2": lambda: app.MobileNetV2(**options, alpha=0.35 if small else 1.0),
        "MobileNetV3Small": lambda: app.MobileNetV3Small(**options),
        "EfficientNetB0": lambda: app.EfficientNetB0(**options),
        "ResNet50": lambda: app.ResNet50(**options),
        "DenseNet121": lambda: app.DenseNet121(**options),
        "VGG16": lambda: app.VGG16(include_top=not small, weights=None, input_shape=shape, **({} if small else {"classes": 1000}), pooling="avg" if small else None),
        "Xception": lambda: app.Xception(weights=None, input_shape=large, classes=options["classes"]),
        "InceptionV3": lambda: app.InceptionV3(weights=None, input_shape=large, classes=options["classes"]),
    }


def text_classifier(cell: str, units: int) -> Callable:
    def build():
        import keras

        tokens = keras.Input((40,), dtype="int32")
        x = keras.layers.Embedding(2000, units)(tokens)
        x = getattr(keras.layers, cell)(units)(x)
        return keras.Model(tokens, keras.layers.Dense(4, activation="softmax")(x))

    return build


def transformer(width: int, blocks: int) -> Callable:
    def build():
        import keras
        from keras import layers

        tokens = keras.Input((32,), dtype="int32")
        x = layers.Embedding(3000, width)(tokens)
        for _ in range(blocks):
            attended = layers.MultiHeadAttention(4, width // 4)(x, x)
            x = layers.LayerNormalization()(x + attended)
            hidden = layers.Dense(4 * width, activation="gelu")(x)
            x = layers.LayerNormalization()(x + layers.Dense(width)(hidden))
        x = layers.GlobalAveragePooling1D()(x)
        return keras.Model(tokens, layers.Dense(5)(x))

    return build


def unet(width: int) -> Callable:
    def build():
        import keras
        from keras import layers

        image = keras.Input((64, 64, 3))
        down1 = layers.Conv2D(width, 3, padding="same", activation="relu")(image)
        down2 = layers.Conv2D(2 * width, 3, strides=2, padding="same", activation="relu")(down1)
        middle = layers.Conv2D(4 * width, 3, strides=2, padding="same", activation="relu")(down2)
        up = layers.Conv2DTranspose(2 * width, 3, strides=2, padding="same", activation="relu")(middle)
        up = layers.Concatenate()([up, down2])
        up = layers.Conv2DTranspose(width, 2, strides=2)(up)
        up = layers.Concatenate()([up, down1])
        return keras.Model(image, layers.Conv2D(2, 1, activation="sigmoid")(up))

    return build


def convolution_1d(width: int) -> Callable:
    def build():
        import keras
        from keras import layers

        signal = keras.Input((256, 4))
        x = layers.Conv1D(width, 7, strides=2, activation="relu")(signal)
        x = layers.SeparableConv1D(2 * width, 5, padding="same", activation="relu")(x)
        x = layers.Conv1D(2 * width, 3, dilation_rate=2, padding="causal", activation="relu")(x)
        return keras.Model(signal, layers.Dense(6)(layers.GlobalMaxPooling1D()(x)))

    return build


def builders(small: bool) -> dict[str, Callable]:
    """All models by name; a builder returns a fresh Keras 3 model."""
    width = 32 if small else 64
    return {
        **applications(small),
        "LSTM": text_classifier("LSTM", width),
        "GRU": text_classifier("GRU", width),
        "Transformer": transformer(2 * width, 2 if small else 6),
        "U-Net": unet(width),
        "Conv1D": convolution_1d(2 * width),
    }


def build(name: str, small: bool):
    """A Keras model with seeded weights and random batch normalization statistics."""
    import keras

    keras.utils.set_random_seed(SEED)
    model = builders(small)[name]()
    rng = np.random.default_rng(SEED)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.moving_mean.shape[0]
            layer.moving_mean.assign(rng.normal(0, 0.1, count))
            layer.moving_variance.assign(rng.uniform(0.5, 2, count))
            if layer.gamma is not None:
                layer.gamma.assign(rng.uniform(0.5, 1.5, count))
                layer.beta.assign(rng.normal(0, 0.1, count))
    return model
