"""Fixtures that every test may use: where the real models and data are, and a seeded generator.

Neither is part of the repository. `TFLITE_SMART_DATA` names the data folder (default `../shared/data` beside the checkout), the
trained models lie in the folder `models` next to it. A test that needs a file which is not there is skipped with that reason.
"""

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TFLITE_SMART_DATA", ROOT.parent / "shared" / "data"))
MODELS = DATA.parent / "models"


def _existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is missing; set TFLITE_SMART_DATA to the data folder (the models lie beside it)")
    return path


@pytest.fixture(scope="session")
def data_path():
    """Returns a function: name of a data file -> its path, or skips the test."""
    return lambda name: _existing(DATA / name)


@pytest.fixture(scope="session")
def model_path():
    """Returns a function: name of a trained model -> its path, or skips the test."""
    return lambda name: _existing(MODELS / name)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed; the same numbers in every test that asks for it."""
    return np.random.default_rng(2101)
