"""The numpy reference of the codecs: literal bytes, round trips, entropy bounds, damaged tiles."""

import numpy as np
import pytest

from tflite_smart.converter import compress
from tflite_smart.converter.codecs import CODECS, CodecParameters, rans
from tflite_smart.converter.compress import TensorSettings
from tflite_smart.converter.errors import PackedWeightError
from tflite_smart.converter.format import Quantized

SEED = 20_230_817
LENGTHS = [1, 2, 31, 32, 33, 63, 64, 65, 95, 96, 97, 1000]


def histogram(ids):
    return np.bincount(ids.astype(np.int64) + 128, minlength=256)


def entropy_bits(ids):
    p = histogram(ids) / len(ids)
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum() * len(ids))


def distributions(count):
    rng = np.random.default_rng(SEED)
    yield "constant", np.full(count, -7)
    yield "zeros", np.zeros(count, int)
    yield "two values", rng.choice([-128, 127], count)
    yield "uniform", rng.integers(-128, 128, count)
    yield "gaussian", np.clip(np.rint(rng.normal(0, 5, count)), -128, 127)
    yield "heavy tails", np.clip(np.rint(rng.standard_cauchy(count) * 2), -128, 127)
    yield "pruned", np.where(rng.random(count) < 0.9, 0, rng.integers(-20, 20, count))


@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("name", list(CODECS))
def test_round_trip(name, count):
    codec = CODECS[name]
    tried = 0
    for label, ids in distributions(count):
        ids = ids.astype(np.int8)
        plan = codec.plan(histogram(ids))
        if plan is None:  # rans has nothing to code in a constant tensor, bitpack no width for 256 values without escape
            continue
        encoded = codec.encode_tile(ids, plan[0])
        assert np.array_equal(codec.decode_tile(encoded, count, plan[0]), ids), label
        assert codec.encode_tile(ids, plan[0]) == encoded, "encoding must be deterministic"
        tried += 1
    assert tried >= (0 if (name, count) == ("rans", 1) else 1), "one id is a constant tensor, which rans leaves to bitpack"


def test_raw_bytes():
    assert CODECS["raw"].encode_tile(np.array([1, -1, 127], np.int8), CodecParameters()) == bytes([0x01, 0xFF, 0x7F])


def test_bitpack_bytes():
    # 2 bits, base -1: ids -1, 0, 1 are the codes 0, 1, 2; 3 is the escape. Ids -1 0 1 9 5:
    #   lane     4 3 2 1 0
    #   bit 0    1 1 0 1 0  = 0x1A      bit 1    1 1 1 0 0  = 0x1C      escape list, backwards: 5, 9
    parameters = CodecParameters(raw_bits=2, base=-1, has_escape=True)
    encoded = CODECS["bitpack"].encode_tile(np.array([-1, 0, 1, 9, 5], np.int8), parameters)
    assert encoded == bytes([0x1A, 0, 0, 0, 0x1C, 0, 0, 0, 5, 9])


def test_sparse_bytes():
    # bitmap: lanes 1 and 33 -> row 0 = 0b10, row 1 = 0b10; then the two values
    ids = np.zeros(34, np.int8)
    ids[[1, 33]] = [-3, 4]
    assert CODECS["sparse"].encode_tile(ids, CodecParameters()) == bytes([2, 0, 0, 0, 2, 0, 0, 0, 0xFD, 4])


def test_rans_bytes():
    # Two symbols with 128 of 256 slots each: a lane that codes one symbol goes from state 256 to 256 * (256 // 128) + slot, and no byte leaves it.
    frequencies = (128, 128) + (0,) * 14
    parameters = CodecParameters(base=0, num_symbols=2, frequencies=frequencies)
    encoded = CODECS["rans"].encode_tile(np.zeros(32, np.int8), parameters)
    slot = int(rans.slot_tables(frequencies)[3][0])  # the slot of symbol 0, rank 256 % 128 = 0
    assert encoded == (512 + slot).to_bytes(2, "little") * 32


def test_alias_tables_hold_every_frequency():
    rng = np.random.default_rng(SEED)
    for _ in range(200):
        counts = np.where(rng.random(16) < 0.3, 0, rng.geometric(0.01, 16))
        counts[rng.choice(16, 2, replace=False)] += 1
        frequencies, _ = rans.quantize_frequencies(counts)
        symbol, rank, start, slot_of = rans.slot_tables(frequencies)
        assert np.array_equal(np.bincount(symbol, minlength=16), frequencies)
        for s in range(16):
            assert np.array_equal(rank[symbol == s], np.arange(frequencies[s])), "ranks must ascend with the slots"
        assert np.array_equal(slot_of[start[symbol] + rank], np.arange(256))


def test_quantized_frequencies_are_optimal():
    """No move of one slot from one symbol to another makes the code shorter."""
    rng = np.random.default_rng(SEED)
    for _ in range(50):
        counts = rng.geometric(rng.uniform(0.001, 0.5), 16)
        frequencies, bits = rans.quantize_frequencies(counts)
        f = np.array(frequencies)
        assert f.sum() == 256 and f.min() >= 1
        for up in range(16):
            for down in range(16):
                if up != down and f[down] > 1:
                    g = f.copy()
                    g[up] += 1
                    g[down] -= 1
                    assert -(counts * np.log2(g / 256)).sum() >= bits - 1e-6 * bits


@pytest.mark.parametrize("shape", ["gaussian", "laplacian"])
@pytest.mark.parametrize("deviation", [1.0, 2.0, 4.0, 8.0, 20.0])
def test_rans_is_within_two_percent_of_the_entropy(shape, deviation):
    """Everything counted but the per-channel scales, which are no ids: header, frequencies, tile index, states, padding."""
    rng = np.random.default_rng(SEED)
    draw = rng.normal if shape == "gaussian" else rng.laplace
    spread = deviation if shape == "gaussian" else deviation / np.sqrt(2)
    ids = np.clip(np.rint(draw(0, spread, (256, 256))), -128, 127).astype(np.int8)
    packed = compress.pack(Quantized(ids, "integer"), 256, TensorSettings(codecs=("rans",)))
    excess = 8 * len(packed.to_bytes()) / entropy_bits(ids.reshape(-1)) - 1
    assert 0 < excess < 0.02, f"{excess:.2%}"


@pytest.mark.parametrize("name", list(CODECS))
def test_a_damaged_tile_is_an_error_or_another_tile(name):
    """Cutting or extending a tile is always seen; what a flipped bit decodes to is the CRC's business, but it must not raise anything else."""
    codec = CODECS[name]
    ids = np.clip(np.rint(np.random.default_rng(SEED).standard_cauchy(500) * 2), -128, 127).astype(np.int8)
    parameters, _ = codec.plan(histogram(ids))
    encoded = codec.encode_tile(ids, parameters)
    for cut in range(len(encoded)):
        with pytest.raises(PackedWeightError):
            codec.decode_tile(encoded[:cut], len(ids), parameters)
    with pytest.raises(PackedWeightError):
        codec.decode_tile(encoded + b"\0", len(ids), parameters)
    for position in range(0, len(encoded), 7):
        damaged = bytearray(encoded)
        damaged[position] ^= 0x10
        try:
            codec.decode_tile(bytes(damaged), len(ids), parameters)
        except PackedWeightError:
            pass


def test_escapes_cost_bitpack_time():
    """Per id: 1 without escapes, more where rows have one, never more than twice as much; the smallest plan is that of `plan`."""
    rng = np.random.default_rng(SEED)
    ids = np.clip(np.rint(rng.laplace(0, 2, 20000)), -128, 127).astype(np.int8)
    plans = CODECS["bitpack"].plans(histogram(ids))
    times = {parameters.raw_bits: time / ids.size for parameters, _, time in plans}
    assert times[1] > 1.99 and 1.3 < times[4] < 1.9 and 1.0 < times[5] < 1.1
    assert CODECS["bitpack"].plan(histogram(ids)) == min((plan[:2] for plan in plans), key=lambda plan: plan[1])
