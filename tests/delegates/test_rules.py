"""FORMAT.md, section 5: the C++ and the numpy decoder refuse the same bytes for the same rule, and agree on what they accept."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.delegates.verdicts import read_native, read_numpy, rule_of, verdict
from tests.golden_errors import generate
from tests.golden_errors.sealing import sealed
from tflite_smart.converter import compress
from tflite_smart.converter.errors import PackedWeightError
from tflite_smart.converter.format import HEADER_BYTES, MAX_ELEMENTS, PackedWeight
from tflite_smart.delegates import native

GOLDEN_ERRORS = Path(generate.__file__).parent
FORMAT = Path(compress.__file__).with_name("FORMAT.md")
FILES = sorted(path.name for path in GOLDEN_ERRORS.glob("*.tfsw"))
WHOLE_TENSOR_RULE = "shape"  # no property of the bytes alone: tested below


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
    """A constant tensor of 2^31 - 1 weights in 76 bytes, for a tensor of 8."""
    blob = PackedWeight("bitpack", "integer", generate.CODINGS["constant"], 1, MAX_ELEMENTS, 1, 1, None, None, [b""]).to_bytes()
    assert len(blob) == 76 and native.open_packed(blob).channel_elements == MAX_ELEMENTS
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
        at = HEADER_BYTES + payload_bytes - 1 - int(rng.integers(0, max(1, payload_bytes // 2)))
        broken[at] ^= int(rng.integers(1, 256))
        broken = sealed(broken)
        assert verdict(read_native, broken) == verdict(read_numpy, broken)
        verdicts.add(verdict(read_native, broken)[0])
    assert verdicts <= {"", "tile_end", "tile_bytes", "version", "crc", "padding"} and verdicts
