"""For tests that run what they have converted."""

import pytest

from tflite_smart.delegates import library_path
from tflite_smart.delegates.native import DelegateLibraryError


@pytest.fixture(scope="session")
def delegate():
    try:
        return library_path()
    except DelegateLibraryError as error:
        pytest.skip(str(error))
