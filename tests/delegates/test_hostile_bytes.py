"""The C++ and the numpy decoder come to one verdict on packed weights that somebody has changed at will."""

from hypothesis import HealthCheck, given, seed, settings, strategies as st

from tests.delegates.verdicts import read_native, read_numpy, verdict
from tests.golden_errors import generate
from tests.golden_errors.sealing import sealed
from tflite_smart.delegates import native

CHANGES = st.lists(st.tuples(st.integers(0, 600), st.sampled_from([0, 1, 2, 3, 5, 31, 32, 127, 128, 255]) | st.integers(0, 255)), max_size=6)


@seed(2101)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(generate.CODINGS)), st.sampled_from(sorted(native.VALUE_KINDS)), CHANGES, st.integers(-3, 3))
def test_two_decoders_one_verdict(coding, value_kind, changes, longer):
    """Any few bytes changed, the end cut or extended, check sums made right: the same rule, or the same ids."""
    blob = bytearray(generate.valid(coding, value_kind))
    for position, value in changes:
        blob[position % len(blob)] = value
    blob = blob[: len(blob) + longer] if longer < 0 else blob + bytes(longer)
    blob = sealed(blob)
    try:
        if native.open_packed(blob).tile_ids(0) > 1 << 20:
            return  # valid and huge: numpy would take its time
    except native.NativeError:
        pass
    assert verdict(read_native, blob) == verdict(read_numpy, blob)
