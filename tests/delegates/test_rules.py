"""FORMAT.md, section 5: the C++ and the numpy decoder refuse the same bytes for the same rule, and agree on what they accept."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings, strategies as st

from tests.golden_errors import generate
from tests.golden_errors.sealing import sealed
from tflite_smart.converter import compress
from tflite_smart.converter.errors import PackedWeightError
from tflite_smart.converter.format import MAX_ELEMENTS, PADDING_BYTES, PackedWeight
from tflite_smart.delegates import native

GOLDEN_ERRORS = Path(generate.__file__).parent
FORMAT = Path(__file__).resolve().parents[2] / "converter" / "FORMAT.md"
FILES = sorted(path.name for path in GOLDEN_ERRORS.glob("*.tfsw"))
WHOLE_TENSOR_RULE = "shape"  # no property of the bytes alone: tested below


def rule_of(error: Exception) -> str:
    """The name of the broken rule, from the message."""
    match = re.match(r"packed weight: (\w+) must be .* Received: ", str(error))
    assert match, f"not the pattern of FORMAT.md, 5: {error}"
    return match[1]


def read_native(blob: bytes) -> list[bytes]:
    return [native.decode_tile(blob, tile).tobytes() for tile in range(native.open_packed(blob).num_tiles)]


def read_numpy(blob: bytes) -> list[bytes]:
    packed = PackedWeight.from_bytes(blob)
    return [packed.decode_tile(tile).tobytes() for tile in range(packed.num_tiles)]


def verdict(read, blob: bytes) -> tuple[str, list[bytes]]:
    """The broken rule and nothing, or nothing and the ids of every tile."""
    try:
        return "", read(blob)
    except (PackedWeightError, native.NativeError) as error:
        return rule_of(error), []


@pytest.mark.parametrize("name", FILES)
def test_golden_error(name, isa):
    blob, rule = (GOLDEN_ERRORS / name).read_bytes(), name.split(".")[0]
    assert verdict(read_native, blob) == (rule, [])
    assert verdict(read_numpy, blob) == (rule, [])


def test_every_rule_has_a_file_and_every_file_a_rule():
    table = FORMAT.read_text().split("## 5.")[1]
    rules = {name for line in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", line)}
    assert rules - {WHOLE_TENSOR_RULE} == {name.split(".")[0] for name in FILES} == set(generate.BREAKS)


def test_the_files_are_what_the_script_writes():
    for rule, blobs in generate.BREAKS.items():
        for number, blob in enumerate(blobs, 1):
            assert (GOLDEN_ERRORS / f"{rule}{f'.{number}' if number > 1 else ''}.tfsw").read_bytes() == blob


def test_shape_is_checked_before_anything_is_decoded():
    """A constant tensor of 2^31 - 1 weights in 88 bytes, for a tensor of 8."""
    blob = PackedWeight("bitpack", "integer", generate.CODINGS["constant"], 1, MAX_ELEMENTS, 1, 1, None, None, [b""]).to_bytes()
    assert len(blob) == 88 and native.open_packed(blob).channel_elements == MAX_ELEMENTS
    for read in (lambda: native.expand(blob, (1, 8)), lambda: compress.expand_blob(blob, (1, 8), 0)):
        with pytest.raises((PackedWeightError, native.NativeError)) as caught:
            read()
        assert rule_of(caught.value) == WHOLE_TENSOR_RULE


@pytest.mark.parametrize("coding", generate.CODINGS)
def test_missing_lanes_are_decoded_and_dropped(coding, isa):
    """The last row's missing lanes hold random bits, escapes among them: both decoders count them alike."""
    blob, verdicts = generate.valid(coding), set()
    payload_bytes = native.open_packed(blob).payload_bytes
    rng = np.random.default_rng(5)
    for _ in range(80):
        broken = bytearray(blob)
        at = len(blob) - PADDING_BYTES - 1 - int(rng.integers(0, max(1, payload_bytes // 2)))
        broken[at] ^= int(rng.integers(1, 256))
        broken = sealed(broken)
        assert verdict(read_native, broken) == verdict(read_numpy, broken)
        verdicts.add(verdict(read_native, broken)[0])
    assert verdicts <= {"", "tile_end", "tile_bytes", "tile_index", "scales"} and verdicts


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

