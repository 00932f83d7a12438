"""The arithmetic of the energy estimate."""

import numpy as np

from tflite_smart.converter.codecs import CODECS
from tflite_smart.converter.format import VALUE_KINDS
from tflite_smart.energy import read_energy_uj


def test_bytes_cost_more_than_arithmetic():
    assert np.isclose(read_energy_uj(1_000_000), 160.0)
    smartdeal = read_energy_uj(400_000, 1_000_000, "rans", "smartdeal", 3)
    # 400 kB from DRAM; per weight two byte look-ups, one addition for the id, three shifts and three additions
    assert np.isclose(smartdeal, 64.0 + 2.5 + 0.1 + 0.6)


def test_every_codec_and_value_kind_has_an_estimate():
    for codec in CODECS:
        for value_kind in VALUE_KINDS:
            assert read_energy_uj(0, 1000, codec, value_kind, 3) > 0
