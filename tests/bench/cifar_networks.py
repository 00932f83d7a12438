"""The networks of train_cifar.py: a ResNet56 that is trained already, a narrow VGG16, a ResNet20 and a ResNet8 that begin at random."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers

VGG16 = (64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512)  # None halves the image
VGG_WIDTH = 0.25


@keras.saving.register_keras_serializable(package="tests")
class FusedBatchNormalization(layers.BatchNormalization):
    """Computes with TensorFlow's fused operator, on a CPU in half the time of the many that Keras takes; the same mathematics and variables."""

    def call(self, inputs, training=None, mask=None):
        import tensorflow as tf

        options = {"epsilon": self.epsilon, "data_format": "NHWC"}
        if not training or not self.trainable:
            return tf.compat.v1.nn.fused_batch_norm(inputs, self.gamma, self.beta, self.moving_mean, self.moving_variance, is_training=False, **options)[0]
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, self.gamma, self.beta, is_training=True, **options)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1 - self.momentum))
        return outputs


def vgg16():
    """VGG16's thirteen convolutions, `VGG_WIDTH` times as wide, with batch normalization as is usual on CIFAR-10, and one dense layer: 0.92 million weights."""
    x = inputs = keras.Input((32, 32, 3), name="image")
    for number, filters in enumerate(VGG16):
        if filters is None:
            x = layers.MaxPooling2D()(x)
            continue
        size = f"size{32 >> VGG16[:number].count(None)}"
        x = layers.Conv2D(round(filters * VGG_WIDTH), 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{size}_conv{number}")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, layers.Dense(10, name="scores")(layers.GlobalMaxPooling2D()(x)), name="vgg16")


def resnet(blocks: int, name: str):
    """Three sizes of 16, 32 and 64 channels with so many blocks each. Of one it is the network of MLPerf Tiny's image classification, arXiv:2106.07597; of three about He et al.'s ResNet20."""

    def convolution(x, filters, taps, strides, name):
        x = layers.Conv2D(filters, taps, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = keras.Input((32, 32, 3), name="image")
    x = layers.ReLU()(convolution(inputs, 16, 3, 1, "first"))
    for filters in (16, 32, 64):
        for number in range(blocks):
            prefix, strides = f"block{filters}_{number}", 2 if filters > 16 and number == 0 else 1
            y = layers.ReLU()(convolution(x, filters, 3, strides, f"{prefix}_conv1"))
            y = convolution(y, filters, 3, 1, f"{prefix}_conv2")
            skip = x if strides == 1 else convolution(x, filters, 1, strides, f"{prefix}_skip")
            x = layers.ReLU()(layers.Add()([y, skip]))
    return keras.Model(inputs, layers.Dense(10, name="scores")(layers.GlobalAveragePooling2D()(x)), name=name)


def resnet56(data: Path):
    """He et al., arXiv:1512.03385, section 4.2, trained on the original images: the data folder's neighbour has it."""
    return keras.saving.load_model(data.parent / "models" / "cifar10_resnet56.keras", compile=False)


@dataclasses.dataclass(frozen=True)
class Network:
    """What is trained how long.

    Attributes:
        build: function of the data folder that gives the model, trained or not.
        float_steps, float_rate: steps of the float training that everything starts from, and its highest learning rate.
        row_steps, row_rate: of each row of the table.
        sparsity: pattern of layer names -> fractions of zeros of the rows `pruned to 90 %` and `pruned, 4 bits`; the layers with few weights keep more of them.
        wide_steps: pattern of layer names -> `EntropyQuantize.step` of the row `wide steps`.
        fine, smartdeal_error, smartdeal_threshold: pattern of the layers that the SmartDeal rows do not decompose, and what the others get: a relative error without retraining, and
            `SmartDeal.threshold` in training.
        smaller, projected_rate: how many times smaller the network is made that the row `compressed, then trained` goes on with, and that row's highest learning rate.
    """

    build: Callable
    float_steps: int
    float_rate: float
    row_steps: int
    row_rate: float
    sparsity: dict[str, tuple[float, float]]
    wide_steps: dict[str, float]
    fine: str
    smartdeal_error: float
    smartdeal_threshold: float
    smaller: float
    projected_rate: float


NETWORKS = {
    "resnet56": Network(
        resnet56, 400, 0.02, 200, 0.02,
        {"layer1_": (0.7, 0.5), "layer2_": (0.85, 0.76), "layer3_": (0.93, 0.9)},
        {"layer1_": 1.0, "layer2_": 1.5, "layer3_": 1.9}, "(^|/)conv1[_/]|layer1_|linear", 0.2, 7.0, 22.1, 0.05,
    ),
    "vgg16": Network(
        lambda data: vgg16(), 1200, 0.1, 500, 0.05,
        {"size32_conv1/|size16_": (0.6, 0.6), "size8_": (0.8, 0.85), "size4_": (0.9, 0.95), "size2_": (0.93, 0.98)},
        {"size32_conv1/|size16_": 1.25, "size8_": 2.0, "size4_": 3.0, "size2_": 3.55}, "size32_|size16_|scores", 0.207, 7.0, 55.0, 0.05,
    ),
    "resnet20": Network(
        lambda data: resnet(3, "resnet20"), 4000, 0.1, 200, 0.05,
        {"block16_.*conv": (0.7, 0.5), "block32_.*conv": (0.85, 0.7), "block64_.*conv": (0.93, 0.85)},
        {"block16_.*conv": 0.8, "block32_.*conv": 1.2, "block64_.*conv": 1.6}, "first|block16_|scores", 0.2, 7.0, 16.0, 0.05,
    ),
    "resnet8": Network(
        lambda data: resnet(1, "resnet8"), 2000, 0.1, 200, 0.05,
        {"block16_.*conv": (0.7, 0.4), "block32_.*conv": (0.85, 0.6), "block64_.*conv": (0.93, 0.75)},
        {"block16_.*conv": 0.6, "block32_.*conv": 1.0, "block64_.*conv": 1.4}, "first|block16_|scores", 0.2, 7.0, 10.0, 0.05,
    ),
}  # fmt: skip


def for_training(model, policy: str):
    """A copy that computes in `policy` (`mixed_bfloat16` or `float32`) with fused batch normalization; the weights stay float32."""

    def copy(layer):
        kind = FusedBatchNormalization if type(layer) is layers.BatchNormalization else type(layer)
        # What comes out is float32: scores in bfloat16 have two digits.
        return kind.from_config({**layer.get_config(), "dtype": "float32" if isinstance(layer, layers.Dense) else policy})

    copied = keras.models.clone_model(model, clone_function=copy)
    copied.set_weights(model.get_weights())
    return copied
