"""Fixtures of the delegate's tests."""

import pytest

from tflite_smart.delegates import native


@pytest.fixture(params=native.isa_names())
def isa(request):
    """Every instruction set of this machine in turn, forced for the whole process."""
    native.force_isa(request.param)
    yield request.param
    native.force_isa(None)
