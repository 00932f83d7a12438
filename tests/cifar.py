"""The CIFAR-10 images of TFLITE_SMART_DATA as arrays. JPEG files in a tar archive, decoded with TensorFlow."""

import os
import tarfile
from pathlib import Path

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of x / 255, what cifar10_resnet56 was trained with


def data_folder() -> Path:
    """Where the data are: `TFLITE_SMART_DATA`, by default `../shared/data` beside the checkout."""
    return Path(os.environ.get("TFLITE_SMART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def load_test_images(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images `(5000, 32, 32, 3)` and labels `(5000,)`."""
    return load_images(data / "cifar10_test.tar.xz")


def load_images(archive_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images `(n, 32, 32, 3)` and labels `(n,)` of an archive; labels are the classes in alphabetical order."""
    import tensorflow as tf

    with tarfile.open(archive_path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive if member.name.endswith(".jpg")}
    names = sorted(files)
    classes = sorted({Path(name).parent.name for name in names})
    images = np.stack([tf.io.decode_jpeg(files[name], channels=3).numpy() for name in names])
    return images, np.array([classes.index(Path(name).parent.name) for name in names])


def normalized(images: np.ndarray) -> np.ndarray:
    """float32 input of cifar10_resnet56."""
    return ((images / 255.0 - MEAN) / STD).astype(np.float32)
