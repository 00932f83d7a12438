"""The command that trains and measures every method runs, keeps what is done, and goes on where it was cut off. On noise and for two steps: its figures are not tested."""

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="Keras and a backend are needed to train")

from tests import cifar
from tests.bench import cifar_training, train_cifar


def test_two_rows(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(1)
    monkeypatch.setattr(cifar, "load_images", lambda path: (rng.integers(0, 256, (256, 32, 32, 3), np.uint8), rng.integers(0, 10, 256)))
    command = [str(tmp_path), "--networks", "resnet8", "--rows", "^float, as long|^compressed, then trained$", "--steps-scale", "0.002"]
    assert train_cifar.main(command) == 0
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "resnet8").glob("*.json")}
    assert results["compressed_then_trained"]["smaller"] > 9 > results["float_as_long"]["smaller"] == 1
    capsys.readouterr()
    (tmp_path / "resnet8" / "compressed_then_trained.json").unlink()
    monkeypatch.setattr(train_cifar, "train", lambda model, batches, answers, steps, checkpoint: _is_done(model, steps))
    assert train_cifar.main(command) == 0
    printed = capsys.readouterr().out
    assert "resnet8: compressed, then trained" in printed and "resnet8: float, as long" not in printed  # only the row whose result is missing runs
    assert json.loads((tmp_path / "resnet8" / "compressed_then_trained.json").read_text())["file_bytes"] == results["compressed_then_trained"]["file_bytes"]


def test_held_out_images_are_in_no_batch(tmp_path):
    images = np.arange(300, dtype=np.uint8).repeat(3072).reshape(300, 32, 32, 3)
    np.savez(tmp_path / "cifar10_train.npz", x=images, y=np.arange(300))  # the label tells which image it is
    whole, part = (cifar_training.Batches(tmp_path, tmp_path, held_out) for held_out in (0, 44))
    seen = {int(label) for number in range(8) for label in part(number)[1]}
    assert len(whole.labels) == 300 and len(part.held_out[1]) == 44 and seen == set(range(300)) - set(part.held_out[1].tolist())
    assert np.array_equal(part.held_out[0], images[part.held_out[1]])


def test_distillation(rng):
    """At temperature 1 the cross-entropy of mixed labels; at any, no gradient where a network answers as its teacher and the truth is what both say."""
    import tensorflow as tf

    true, answers = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 6)], rng.dirichlet(np.ones(10), 6).astype(np.float32)
    scores = rng.normal(size=(6, 10)).astype(np.float32)
    mixed = cifar_training.TEACHER_SHARE * answers + (1 - cifar_training.TEACHER_SHARE) * true
    expected = tf.nn.softmax_cross_entropy_with_logits(mixed, scores).numpy().mean()
    np.testing.assert_allclose(cifar_training.Distillation(1.0)(np.stack([true, answers], axis=1), scores), expected, rtol=1e-5)
    same = tf.Variable(np.log(answers))
    for temperature in (1.0, 4.0):
        with tf.GradientTape() as tape:
            loss = cifar_training.Distillation(temperature)(np.stack([answers, answers], axis=1), same)
        assert np.abs(tape.gradient(loss, same)).max() < 1e-6


def _is_done(model, steps: int) -> None:
    assert int(model.optimizer.iterations.numpy()) == steps
