"""samples/raspberry_pi: what it reads from files, and the program itself. `make test-arm64` runs these on the emulated machine too."""

import os
from pathlib import Path
import subprocess
import sys
import threading
import wave

import numpy as np
import pytest

from tests.arm64.conftest import PYTHON_VARIABLE
from tests.delegates import models
from tests.delegates.running import run

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "raspberry_pi"
PYTHON = os.environ.get(PYTHON_VARIABLE, sys.executable)
IMAGE = {"shape": np.array([1, 8, 8, 3]), "dtype": np.float32}
LABELS = [f"label{i}" for i in range(12)]


@pytest.fixture(scope="module")
def inputs():
    """The sample's module inputs.py, imported as the sample does it: from its own folder."""
    sys.path.insert(0, str(SAMPLE))
    import inputs as module
    yield module
    sys.path.remove(str(SAMPLE))


def write_wav(path: Path, samples, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(samples).astype("<i2").tobytes())
    return path


def write_ppm(path: Path, pixels: np.ndarray) -> Path:
    path.write_bytes(b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes())
    return path


def sound(rng, length: int) -> np.ndarray:
    t = np.arange(length) / 16000
    return 8000 * np.sin(2 * np.pi * (300 + 900 * t) * t) + rng.normal(0, 300, length)


def test_coefficients_are_those_of_tf_signal(inputs, rng, tmp_path):
    """tf.signal works in float32: spectra of 480 products, then a logarithm; 1e-3 of values up to some tens."""
    tf = pytest.importorskip("tensorflow")
    samples = inputs.read_wav(str(write_wav(tmp_path / "x.wav", sound(rng, 16000))))
    spectrum = tf.abs(tf.signal.stft(samples, 480, 320, 512))
    mel = tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20.0, 4000.0)
    expected = tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(spectrum @ mel + 1e-6))[:, :10]
    got = inputs.mfcc(samples)
    assert got.shape == (49, 10) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_a_short_recording_ends_in_silence(inputs, tmp_path):
    samples = inputs.read_wav(str(write_wav(tmp_path / "x.wav", [100, -200])))
    np.testing.assert_array_equal(samples[:3], np.float32([0.5, -1, 0]))
    assert samples.shape == (16000,) and np.isfinite(inputs.mfcc(samples)).all()


def test_other_recordings_are_refused(inputs, tmp_path):
    with pytest.raises(ValueError, match="must be 16000 Hz, 1 channel, 16 bit. Received: 8000 Hz, 1 channels, 16 bit.*sox"):
        inputs.read_wav(str(write_wav(tmp_path / "x.wav", [1, 2], rate=8000)))


@pytest.mark.parametrize("size", [(8, 8), (24, 16), (16, 31), (5, 4), (1, 1)])
def test_a_picture_is_cut_to_its_middle_and_resized(inputs, rng, tmp_path, size):
    pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    got = inputs.load(str(write_ppm(tmp_path / "x.ppm", pixels)), IMAGE)
    side = min(size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    middle = pixels[top: top + side, left: left + side].astype(np.float32)
    starts = [int(i * side / 8) for i in range(9)]
    for y in range(8):
        for x in range(8):
            rows, columns = (slice(starts[i], max(starts[i + 1], starts[i] + 1)) for i in (y, x))
            np.testing.assert_allclose(got[0, y, x], middle[rows, columns].mean((0, 1)), atol=1e-4)


def test_pixels_as_the_model_takes_them(inputs, tmp_path):
    path = str(write_ppm(tmp_path / "x.ppm", np.full((8, 8, 3), 200, np.uint8)))
    assert inputs.load(path, IMAGE, mean=100, std=50)[0, 0, 0, 0] == 2
    assert inputs.load(path, {**IMAGE, "dtype": np.uint8})[0, 0, 0, 0] == 200
    assert inputs.load(path, {**IMAGE, "dtype": np.int8})[0, 0, 0, 0] == 72


def test_pillow_reads_the_other_formats(inputs, rng, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (9, 8, 3)).astype(np.uint8)
    image.fromarray(pixels).save(tmp_path / "x.png")
    np.testing.assert_array_equal(inputs.load(str(tmp_path / "x.png"), IMAGE), inputs.load(str(write_ppm(tmp_path / "x.ppm", pixels)), IMAGE))


@pytest.fixture
def picture_model(rng, tmp_path) -> Path:
    path = tmp_path / "picture.tflite"
    path.write_bytes(models.conv_model((1, 8, 8, 3), models.random_weight(rng, (12, 8, 8, 3), 0), (8, 8, 3), padding="VALID"))
    return path


def classify(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([PYTHON, SAMPLE / "classify.py", *arguments], capture_output=True, text=True)


def expected_line(path, scores) -> str:
    best = np.argsort(-scores.reshape(-1))[:2]
    return f"{path}: " + ", ".join(f"{LABELS[i]} {scores.reshape(-1)[i]:.4f}" for i in best)


def test_program_classifies_pictures_and_names_what_it_can_not_read(picture_model, inputs, rng, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(LABELS))
    picture, broken = write_ppm(tmp_path / "x.ppm", rng.integers(0, 256, (9, 8, 3)).astype(np.uint8)), tmp_path / "broken.ppm"
    broken.write_bytes(b"P6")
    done = classify(picture_model, broken, tmp_path / "none.npy", picture, "--labels", labels, "--top", "2", "--mean", "128", "--std", "64")
    scores = run(picture_model.read_bytes(), inputs.load(str(picture), IMAGE, 128, 64))
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and len(lines) == 2
    assert lines[0].startswith(expected_line(picture, scores) + " (") and lines[0].endswith(" ms)")
    assert "opened in" in lines[1] and "peak memory of the process" in lines[1]
    assert f"{broken}: must be a binary .ppm" in done.stderr and "none.npy" in done.stderr


def test_program_classifies_recordings(inputs, rng, tmp_path):
    """A dense layer in place of the trained keyword model, whose classes it has."""
    content = models.fully_connected_model((1, 490), models.random_weight(rng, (12, 490), 0))
    model, wav = tmp_path / "m.tflite", write_wav(tmp_path / "x.wav", sound(rng, 12000))
    model.write_bytes(content)
    done = classify(model, wav, "--labels", SAMPLE / "keywords.txt", "--top", "1")
    scores = run(content, inputs.mfcc(inputs.read_wav(str(wav))).reshape(1, 490)).reshape(-1)
    assert done.returncode == 0, done.stderr
    keywords = (SAMPLE / "keywords.txt").read_text().split()
    assert len(keywords) == 12 and done.stdout.startswith(f"{wav}: {keywords[np.argmax(scores)]} {np.max(scores):.4f} (")


def test_program_watches_a_folder(picture_model, rng, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    child = subprocess.Popen([PYTHON, SAMPLE / "classify.py", picture_model, "--watch", folder], stdout=subprocess.PIPE, text=True)
    stop = threading.Timer(120, child.kill)
    stop.start()
    try:
        for name in ("a.ppm", "b.ppm"):
            write_ppm(folder / name, rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
            assert child.stdout.readline().startswith(f"{folder / name}: class ")
    finally:
        stop.cancel()
        child.kill()
        child.communicate()


def test_the_units_command_is_one_that_the_program_takes(inputs):
    import classify as program  # the sample's folder is on the path

    lines = (SAMPLE / "smart-classify.service").read_text().splitlines()
    start = next(line for line in lines if line.startswith("ExecStart=")).split()[2:]
    arguments = program.build_parser().parse_args(start)
    assert arguments.watch == Path("/var/lib/smart-classify") and arguments.labels.name == "keywords.txt"
    assert f"StateDirectory={arguments.watch.name}" in lines
