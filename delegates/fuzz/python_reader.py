"""Target: any bytes as a packed weight, read by numpy as by C++: the same broken rule, or the same ids. Guided by the coverage of the Python reader, which atheris measures.

    pip install atheris
    python delegates/fuzz/python_reader.py [-max_total_time=60] [-seed=N] FOLDER

The flags are libFuzzer's, which atheris contains. The check sums are made right first, as nothing behind them would ever be reached.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["tflite_smart.converter"]):
    from tests.delegates.verdicts import read_native, read_numpy, verdict
    from tests.golden_errors.sealing import sealed
    from tflite_smart.converter.format import PackedWeight
    from tflite_smart.delegates import native

MAX_ELEMENTS = 1 << 14  # numpy takes its time


def examine(content: bytes) -> None:
    blob = sealed(content)
    if _num_elements(blob) > MAX_ELEMENTS:
        return
    theirs, ours = verdict(read_native, blob), verdict(read_numpy, blob)
    if theirs != ours:
        raise AssertionError(f"C++ and numpy must come to one verdict. Received: {theirs[0] or 'valid'} from C++, {ours[0] or 'valid'} from numpy.")
    if not ours[0]:
        packed = PackedWeight.from_bytes(blob)
        if packed.to_bytes() != blob:
            raise AssertionError("a valid packed weight must be written as it was read. Received: other bytes.")
        packed.expand()


def _num_elements(blob: bytes) -> int:
    """0 for a packed weight that C++ refuses to open."""
    try:
        packed = native.open_packed(blob)
    except native.NativeError:
        return 0
    return packed.num_channels * packed.channel_elements


if __name__ == "__main__":
    atheris.Setup(sys.argv, examine)
    atheris.Fuzz()
