"""The trained models of the codec table, each with fixed inputs to judge on and others to calibrate with.

Judged are CIFAR-10's JPEG test images where there are labels, the same images enlarged to 96 x 96 for visual wake words, and for the audio models features of made-up sounds: hums
with harmonics over coloured noise, which come and go, as log mel spectra or their cosine transform. Calibration inputs come from the training images, or from sounds of another seed.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests import cifar

NUM_CALIBRATION = 512
_JUDGED, _CALIBRATION = 1, 2  # seeds of the sounds
_RATE = 16000


@dataclasses.dataclass(frozen=True)
class BenchModel:
    """A trained model. `file`: in the folder of models, None for what has to be trained first (train_cifar.py); `inputs(data, split, cache)`: float32 samples, and labels or None, of split `test` or `train`;
    `keras`: the Keras file that a .tflite was made from."""

    file: str | None
    inputs: Callable[[Path, str, Path], tuple[np.ndarray, np.ndarray | None]]
    keras: str | None = None


def images(prepare: Callable, labelled: bool = True) -> Callable:
    def load(data: Path, split: str, cache: Path):
        stored = cache / f"{'calibration' if split == 'train' else split}_images.npz"
        if not stored.exists():
            x, y = cifar.load_images(data / f"cifar10_{split}.tar.xz")
            if split == "train":
                chosen = np.random.default_rng(_CALIBRATION).permutation(len(x))[:NUM_CALIBRATION]
                x, y = x[chosen], y[chosen]
            np.savez(stored, x=x, y=y)
        with np.load(stored) as file:
            # The archive is in the order of the classes, and the table may look at the first some hundred only.
            order = np.random.default_rng(_JUDGED).permutation(len(file["x"]))
            return (prepare(file["x"][order]), file["y"][order]) if labelled else (prepare(file["x"][order[:NUM_CALIBRATION]]), None)

    return load


def sounds(features: Callable[[np.ndarray], np.ndarray], seconds: float) -> Callable:
    def load(data: Path, split: str, cache: Path):
        rng = np.random.default_rng(_JUDGED if split == "test" else _CALIBRATION)
        return np.stack([features(sound(rng, round(seconds * _RATE))) for _ in range(NUM_CALIBRATION)]).astype(np.float32), None

    return load


def enlarged(x: np.ndarray) -> np.ndarray:
    """96 x 96 pixels in [0, 1]."""
    return (np.repeat(np.repeat(x, 3, 1), 3, 2) / 255).astype(np.float32)


def sound(rng: np.random.Generator, length: int) -> np.ndarray:
    """A hum of up to 20 harmonics over noise with a falling spectrum, both swelling and fading, with peaks below 1."""
    t = np.arange(length) / _RATE
    pitch = np.exp(rng.uniform(np.log(60), np.log(600)))
    hum = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6.28)) * rng.exponential() / k for k in range(1, rng.integers(2, 21)))
    spectrum = np.fft.rfft(rng.standard_normal(length)) * np.maximum(np.arange(length // 2 + 1), 1.0) ** -rng.uniform(0, 1.2)
    noise = np.fft.irfft(spectrum, length)
    swell = [0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.3, 6) * t + rng.uniform(0, 6.28)) for _ in range(2)]
    mixed = swell[0] * hum / max(np.std(hum), 1e-9) + rng.uniform(0.1, 2) * swell[1] * noise / np.std(noise)
    return rng.uniform(0.02, 0.9) * mixed / np.abs(mixed).max()


def log_mel(signal: np.ndarray, window: int, hop: int, num_bands: int) -> np.ndarray:
    """Natural logarithm of the energies in mel bands `(frames, num_bands)`."""
    starts = range(0, len(signal) - window + 1, hop)
    power = np.square(np.abs(np.fft.rfft(np.stack([signal[s : s + window] for s in starts]) * np.hanning(window))))
    mel = lambda hertz: 2595 * np.log10(1 + np.asarray(hertz) / 700)  # noqa: E731
    edges = np.linspace(mel(20), mel(_RATE / 2), num_bands + 2)
    bins = mel(np.fft.rfftfreq(window, 1 / _RATE))
    rise = (bins[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[None, 2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.log(power @ np.clip(np.minimum(rise, fall), 0, None) + 1e-7)


def machine_frames(signal: np.ndarray) -> np.ndarray:
    """Five frames of 128 mel bands in decibel, `(640,)`: what the autoencoder of machine sounds reads."""
    return (10 / np.log(10) * log_mel(signal, 1024, 512, 128)[:5]).reshape(-1)


def keyword_features(signal: np.ndarray) -> np.ndarray:
    """49 frames of 10 cepstral coefficients, `(49, 10, 1)`."""
    bands = log_mel(signal, 480, 320, 40)[:49]
    basis = np.cos(np.pi / 40 * np.outer(np.arange(40) + 0.5, np.arange(10)))
    return (bands @ basis * np.sqrt(2 / 40))[:, :, None]


def wake_word_features(signal: np.ndarray) -> np.ndarray:
    """30 frames of 40 log mel bands scaled to [0, 1], `(30, 1, 40)`."""
    return np.clip((log_mel(signal, 1024, 512, 40)[:30] + 16) / 24, 0, 1)[:, None]


MODELS = {
    "ResNet56": BenchModel("cifar10_resnet56.keras", images(cifar.normalized)),
    "ResNet8": BenchModel("mlperf_tiny_pretrainedResnet.tflite", images(np.float32), "mlperf_tiny_pretrainedResnet.h5"),
    "VGG16": BenchModel(None, images(cifar.normalized)),
    "ResNet20": BenchModel(None, images(cifar.normalized)),
    "vww_96": BenchModel("mlperf_tiny_vww_96_float.tflite", images(enlarged, labelled=False), "mlperf_tiny_vww_96.h5"),
    "ad01": BenchModel("mlperf_tiny_ad01_fp32.tflite", sounds(machine_frames, 0.25), "mlperf_tiny_ad01.h5"),
    "kws": BenchModel("mlperf_tiny_kws_ref_model_float32.tflite", sounds(keyword_features, 1.0)),
    "str_ww": BenchModel("mlperf_tiny_str_ww_ref_model.h5", sounds(wake_word_features, 1.0)),
}


def keras_source(name: str, models: Path, cache: Path) -> Path | None:
    """The Keras file of a model, or None; that of one that was trained here is NAME.keras in `cache`."""
    model = MODELS[name]
    path = cache / f"{name}.keras" if model.file is None else models / (model.keras or model.file)
    return path if path.exists() and path.suffix in (".keras", ".h5") else None


def tflite_of(name: str, models: Path, cache: Path) -> Path:
    """The model as a .tflite in `cache`; one called NAME.tflite that lies there already is used as it is."""
    path = cache / f"{name}.tflite"
    if path.exists():
        return path
    source = models / MODELS[name].file
    if source.suffix == ".tflite":
        shutil.copy(source, path)
        return path
    from tflite_smart.converter import from_keras

    shutil.copy(from_keras.to_tflite(str(source), str(cache)).path, path)
    return path
