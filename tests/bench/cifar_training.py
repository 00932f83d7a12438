"""One training of train_cifar.py: batches that are the same whenever they are asked for, labels softened by a teacher, a cycle of the learning rate, a checkpoint that training goes on from."""

import functools
import os
import time
from pathlib import Path

import keras
import numpy as np

from tests import cifar

SEED = 7
BATCH = 128
MOMENTUM, DECAY = 0.9, 5e-4
TEACHER_SHARE = 0.7  # of the loss of a row; the rest is for the true classes
CHECKPOINT_SECONDS = 60


class Batches:
    """Batches by number, mirrored and shifted by up to 4 pixels: every training of a network sees the same ones.

    Args:
        folder: keeps the unpacked images.
        data: folder of the archives.
        num_held_out: so many images, drawn once, are in no batch but in `held_out`, images and labels.
    """

    def __init__(self, folder: Path, data: Path, num_held_out: int = 0):
        cache = folder / "cifar10_train.npz"
        if not cache.exists():
            images, labels = cifar.load_images(data / "cifar10_train.tar.xz")
            np.savez(cache, x=images, y=labels)
        with np.load(cache) as file:
            images, labels = file["x"], file["y"]
        out = np.random.default_rng(SEED).choice(len(images), num_held_out, replace=False)
        self.held_out = images[out], labels[out]
        self.images, self.labels = np.delete(images, out, axis=0), np.delete(labels, out)
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


@keras.saving.register_keras_serializable(package="tests")
class Distillation(keras.losses.Loss):
    """`TEACHER_SHARE` of the cross-entropy with a teacher's answers, the rest with the true classes. Labels are `(batch, 2, classes)`: the true ones and the teacher's, probabilities.

    At a temperature T both networks' scores are divided by T, and the teacher's part counts T^2 times, which leaves its gradients as large: the less likely classes then say more about
    what the teacher knows. Source: Hinton et al., arXiv:1503.02531, section 2.
    """

    def __init__(self, temperature: float, name: str = "distillation"):
        super().__init__(name=name)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        cross_entropy = functools.partial(keras.ops.categorical_crossentropy, from_logits=True)
        softened = keras.ops.softmax(keras.ops.log(keras.ops.maximum(y_true[:, 1], 1e-30)) / self.temperature)
        of_teacher = self.temperature**2 * cross_entropy(softened, y_pred / self.temperature)
        return TEACHER_SHARE * of_teacher + (1 - TEACHER_SHARE) * cross_entropy(y_true[:, 0], y_pred)

    def get_config(self):
        return {"temperature": self.temperature, "name": self.name}


@keras.saving.register_keras_serializable(package="tests")
def top1(y_true, y_pred):
    """1 where the true class got the highest score; labels as `Distillation` has them."""
    return keras.ops.cast(keras.ops.argmax(y_true[:, 0], -1) == keras.ops.argmax(y_pred, -1), "float32")


def compile_for(model, peak: float, steps: int, temperature: float = 1.0) -> None:
    """The optimizer and loss of all trainings."""
    optimizer = keras.optimizers.SGD(OneCycle(peak, steps), MOMENTUM, nesterov=True, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["coefficients", "centroids", "basis"])
    model.compile(optimizer, Distillation(temperature), metrics=[top1], jit_compile=False)


def train(model, batches: Batches, answers: np.ndarray | None, steps: int, checkpoint: Path) -> None:
    """Trains a compiled model up to step `steps` of its optimizer.

    Args:
        answers: see `Batches.answers`; None learns the true classes alone, at temperature 1.
        checkpoint: `.keras` file, written now and then and at the end.
    """
    saved = start = time.monotonic()
    first = int(model.optimizer.iterations.numpy())
    for number in range(first, steps):
        x, labels = batches(number)
        wanted = np.eye(10, dtype=np.float32)[labels]
        loss, accuracy = model.train_on_batch(x, np.stack([wanted, wanted if answers is None else answers[number]], axis=1))
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
