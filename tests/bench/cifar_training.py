"""One training of train_cifar.py: batches that are the same whenever they are asked for, labels softened by a teacher, a cycle of the learning rate, a checkpoint that training goes on from."""

import os
import time
from pathlib import Path

import keras
import numpy as np

from tests import cifar

SEED = 7
BATCH = 128
MOMENTUM, DECAY = 0.9, 5e-4
TEACHER_SHARE = 0.7  # of the label that a row learns; the rest is the true class
CHECKPOINT_SECONDS = 60


class Batches:
    """Batches by number, mirrored and shifted by up to 4 pixels: every training of a network sees the same ones.

    Args:
        folder: keeps the unpacked images.
        data: folder of the archives.
    """

    def __init__(self, folder: Path, data: Path):
        cache = folder / "cifar10_train.npz"
        if not cache.exists():
            images, labels = cifar.load_images(data / "cifar10_train.tar.xz")
            np.savez(cache, x=images, y=labels)
        with np.load(cache) as file:
            self.images, self.labels = file["x"], file["y"]
        self._order = (-1, None)

    def __call__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Float32 images `(BATCH, 32, 32, 3)` and labels `(BATCH,)`."""
        per_epoch = len(self.images) // BATCH
        epoch, position = divmod(number, per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([SEED, epoch]).permutation(len(self.images))
        chosen = self._order[1][position * BATCH : (position + 1) * BATCH]
        rng = np.random.default_rng([SEED, epoch, position])
        batch = np.pad(cifar.normalized(self.images[chosen]), ((0, 0), (4, 4), (4, 4), (0, 0)))
        down, right = rng.integers(0, 9, 2)
        batch = batch[:, down : down + 32, right : right + 32]
        mirrored = rng.random(len(batch)) < 0.5
        batch[mirrored] = batch[mirrored, :, ::-1]
        return batch, self.labels[chosen]

    def answers(self, teacher, steps: int, cache: Path) -> np.ndarray:
        """A network's class probabilities for the first batches, `(steps, BATCH, 10)`; kept in a file."""
        known = np.load(cache) if cache.exists() else np.zeros((0, BATCH, 10), np.float32)
        if len(known) < steps:
            new = [keras.ops.convert_to_numpy(keras.ops.softmax(teacher.predict_on_batch(self(number)[0]))) for number in range(len(known), steps)]
            known = np.concatenate([known, new])
            np.save(cache, known)
        return known[:steps]


@keras.saving.register_keras_serializable(package="tests")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Up to `peak` over the first tenth of `steps`, down to nothing over the rest, both in a straight line."""

    def __init__(self, peak: float, steps: int):
        self.peak, self.steps = peak, steps

    def __call__(self, step):
        progress = keras.ops.cast(step, "float32") / self.steps
        return self.peak * keras.ops.maximum(keras.ops.minimum((progress + 0.001) / 0.1, (1 - progress) / 0.9), 0.0)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps}


def compile_for(model, peak: float, steps: int) -> None:
    """The optimizer and loss of all trainings: labels are probabilities."""
    optimizer = keras.optimizers.SGD(OneCycle(peak, steps), MOMENTUM, nesterov=True, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["coefficients", "centroids", "basis"])
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"], jit_compile=False)


def train(model, batches: Batches, answers: np.ndarray | None, steps: int, checkpoint: Path) -> None:
    """Trains a compiled model up to step `steps` of its optimizer.

    Args:
        answers: see `Batches.answers`; None learns the true classes alone.
        checkpoint: `.keras` file, written now and then and at the end.
    """
    saved = start = time.monotonic()
    first = int(model.optimizer.iterations.numpy())
    for number in range(first, steps):
        x, labels = batches(number)
        wanted = np.eye(10, dtype=np.float32)[labels]
        if answers is not None:
            wanted = TEACHER_SHARE * answers[number] + (1 - TEACHER_SHARE) * wanted
        loss, accuracy = model.train_on_batch(x, wanted)
        if number + 1 == steps or time.monotonic() - saved > CHECKPOINT_SECONDS:
            save(model, checkpoint)
            saved = time.monotonic()
            speed = (number + 1 - first) * BATCH / (saved - start)
            print(f"  step {number + 1}/{steps}: loss {loss:.3f}, top-1 {accuracy:.4f} in training, {speed:.0f} images/s", flush=True)
            model.reset_metrics()


def save(model, path: Path) -> None:
    """Under a temporary name first: a file that is there is whole."""
    temporary = path.with_name("new_" + path.name)
    model.save(temporary)
    os.replace(temporary, path)
