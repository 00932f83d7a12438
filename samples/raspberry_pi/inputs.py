"""Turns a picture, a recording or an array on disk into what a model takes. numpy is enough; pictures other than .ppm need Pillow (Debian: python3-pil)."""

from pathlib import Path
import wave

import numpy as np

# How the keyword spotting model of MLPerf Tiny listens: one second at 16 kHz in windows of 30 ms, every 20 ms, 10 of 40 mel coefficients.
SAMPLE_RATE, WINDOW, STEP, FFT = 16000, 480, 320, 512
MEL_BINS, MEL_RANGE_HZ, NUM_COEFFICIENTS = 40, (20.0, 4000.0), 10


def load(path: str, details: dict, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    """The file as one input of the model.

    Args:
        path: .npy, .wav or a picture.
        details: of the input, from `get_input_details()`: `shape`, `dtype`.
        mean, std: float models get pictures as (0..255 - mean) / std, recordings and arrays as they are. Integer models take pictures as they are.
    Raises: ValueError: the file does not fit.
    """
    shape, dtype = tuple(int(n) for n in details["shape"]), np.dtype(details["dtype"])
    kind = Path(path).suffix.lower()
    if kind == ".npy":
        values = np.load(path)
    elif kind == ".wav":
        values = mfcc(read_wav(path))
    else:
        values = read_picture(path, shape)
        if dtype.kind == "f":
            values = (values - np.float32(mean)) / np.float32(std)
        elif dtype == np.int8:
            values = values.astype(np.int16) - 128
    if values.size != np.prod(shape):
        raise ValueError(f"{path}: must give the model's {shape} values. Received: {values.shape}. Is it the right model?")
    return values.reshape(shape).astype(dtype)


def read_wav(path: str) -> np.ndarray:
    """One second of sound, float32 `(16000,)`, its loudest sample at 1; cut or filled with silence at the end. Raises: ValueError."""
    with wave.open(path) as file:
        form = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
        if form != (SAMPLE_RATE, 1, 16):
            raise ValueError(f"{path}: must be 16000 Hz, 1 channel, 16 bit. Received: {form[0]} Hz, {form[1]} channels, {form[2]} bit. "
                             "Convert it: sox in.wav -r 16000 -c 1 -b 16 out.wav")
        samples = np.frombuffer(file.readframes(SAMPLE_RATE), "<i2").astype(np.float32)
    second = np.zeros(SAMPLE_RATE, np.float32)
    second[: samples.size] = samples
    return second / max(np.max(np.abs(second)), 1)


def mfcc(samples: np.ndarray) -> np.ndarray:
    """The mel-frequency cepstral coefficients of one second, float32 `(49, 10)`; the numbers of tf.signal, with which the model was trained."""
    starts = np.arange(0, SAMPLE_RATE - WINDOW + 1, STEP)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    spectrum = np.abs(np.fft.rfft(samples[starts[:, None] + np.arange(WINDOW)] * hann, FFT))
    log_mel = np.log(spectrum @ mel_filters() + 1e-6)
    bins = np.arange(MEL_BINS)
    cosines = np.cos(np.pi / MEL_BINS * (bins[:, None] + 0.5) * np.arange(NUM_COEFFICIENTS))
    return (log_mel @ cosines * np.sqrt(2 / MEL_BINS)).astype(np.float32)


def mel_filters() -> np.ndarray:
    """Overlapping triangles on the mel scale, `(257, 40)`; nothing of the constant part of the sound."""
    def mel(hertz):
        return 1127 * np.log1p(hertz / 700)

    frequencies = mel(np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(*mel(np.array(MEL_RANGE_HZ)), MEL_BINS + 2)
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.maximum(0, np.minimum((frequencies - low) / (center - low), (high - frequencies) / (high - center)))
    filters[0] = 0
    return filters


def read_picture(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """The picture in the model's size, float32 0..255 `(height, width, 3)`: the middle of it, resized. Raises: ValueError."""
    if len(shape) != 4 or shape[3] != 3:
        raise ValueError(f"{path}: is a picture, and the model's input must be (1, height, width, 3). Received: {shape}.")
    pixels = read_ppm(path) if path.lower().endswith(".ppm") else read_with_pillow(path)
    side = min(pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    return resize(pixels[top: top + side, left: left + side].astype(np.float32), shape[1], shape[2])


def read_with_pillow(path: str) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise ValueError(f"{path}: needs Pillow. Install it (pip install pillow), or convert the picture to .ppm.") from None
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def read_ppm(path: str) -> np.ndarray:
    """A binary portable pixmap, uint8 `(height, width, 3)`. Raises: ValueError."""
    content = Path(path).read_bytes()
    fields = content[:64].split(maxsplit=4)[:4]
    if len(fields) < 4 or fields[0] != b"P6" or fields[3] != b"255":
        raise ValueError(f"{path}: must be a binary .ppm (P6) of 8 bits without comments.")
    width, height = int(fields[1]), int(fields[2])
    pixels = np.frombuffer(content[len(content) - 3 * width * height:], np.uint8)
    return pixels.reshape(height, width, 3)


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every new pixel is the mean of the old ones it covers, or the nearest one where it is smaller than they are."""
    for axis, size in ((0, height), (1, width)):
        edges = np.arange(size + 1) * pixels.shape[axis] / size
        starts = np.minimum(edges[:-1].astype(int), pixels.shape[axis] - 1)
        counts = np.diff(np.append(starts, pixels.shape[axis]))
        picked = np.add.reduceat(pixels, starts, axis) / np.maximum(counts, 1).reshape(-1, *[1] * (2 - axis))
        pixels = picked
    return pixels
