"""Arrays in and out: batches, names, types, random inputs, files."""

import numpy as np
import pytest

from tflite_smart import arrays, tables
from tflite_smart.arrays import InputError
from tflite_smart.runner import Runner


def detail(dtype, shape, scale=0.0, zero_point=0, name="x"):
    return {"name": name, "dtype": dtype, "shape": np.array(shape), "quantization": (scale, zero_point)}


def test_float_data_for_an_integer_input_is_quantized_and_saturates():
    data = np.array([-200.0, -1.0, 0.0, 0.26, 200.0], np.float32)
    np.testing.assert_array_equal(arrays.to_model_type(data, detail(np.int8, [5], 0.5, 10)), [-128, 8, 10, 11, 127])
    np.testing.assert_array_equal(arrays.to_real(np.array([8, 10, 11], np.int8), detail(np.int8, [3], 0.5, 10)), [-1.0, 0.0, 0.5])
    # Without a scale, and from integers, it is a plain cast.
    np.testing.assert_array_equal(arrays.to_model_type(np.array([1.0, 2.0]), detail(np.int32, [2])), [1, 2])
    np.testing.assert_array_equal(arrays.to_model_type(np.array([1, 255], np.uint8), detail(np.float32, [2])), [1.0, 255.0])


def test_random_inputs_are_seeded_and_in_range():
    details = [detail(np.float32, [1, 1000], name="a"), detail(np.int8, [1, 5000], name="b"), detail(np.int64, [1, 5000], name="c"),
               detail(np.bool_, [1, 100], name="d"), detail(np.float32, [], name="e")]
    first, again, other = (arrays.random_inputs(details, 3, seed) for seed in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
    assert first["a"].shape == (3, 1000) and first["e"].shape == (3,)
    # 3000 standard normal numbers: mean 0 +- 4 / sqrt(3000), deviation 1 +- 4 / sqrt(6000).
    assert abs(first["a"].mean()) < 0.073 and abs(first["a"].std() - 1) < 0.052
    assert (first["b"].min(), first["b"].max()) == (-128, 127)
    assert (first["c"].min(), first["c"].max()) == (0, 7)
    ranged = arrays.random_inputs(details[:1], 3, 1, (0, 255))["a"]
    assert 0 <= ranged.min() < 2 and 253 < ranged.max() <= 255


def test_text_inputs_have_no_random_values():
    with pytest.raises(InputError, match="--inputs"):
        arrays.random_inputs([detail(np.object_, [1])], 1)


def test_batches_of_a_fixed_model(float_model, rng):
    runner = Runner(float_model)
    x = rng.standard_normal((3, 8, 8, 4)).astype(np.float32)
    feeds = list(runner.batches(runner.named({"anything": x})))
    assert [feed["x"].shape for feed in feeds] == [(1, 8, 8, 4)] * 3
    np.testing.assert_array_equal(np.concatenate([f["x"] for f in feeds]), x)


def test_a_larger_batch_is_one_call(float_model, rng):
    runner = Runner(float_model)
    x = rng.standard_normal((3, 8, 8, 4)).astype(np.float32)
    together = runner({"x": x})["scores"]
    assert together.shape == (3, 10)
    single = np.concatenate([runner({"x": image[None]})["scores"] for image in x])
    # Other tiles, other order of 4096 additions: 4096 * 2^-24 of sum |w x|, about 50.
    np.testing.assert_allclose(together, single, rtol=0, atol=50 * 4096 * 2.0 ** -24)


def test_without_xnnpack_the_same_model(float_model, rng):
    x = {"x": rng.standard_normal((1, 8, 8, 4)).astype(np.float32)}
    np.testing.assert_allclose(Runner(float_model, xnnpack=False)(x)["scores"], Runner(float_model)(x)["scores"],
                               rtol=0, atol=50 * 4096 * 2.0 ** -24)


def test_inputs_of_unequal_length_are_named(float_model):
    runner = Runner(float_model)
    with pytest.raises(InputError, match="number of samples"):
        list(runner.batches({"x": np.zeros((2, 8, 8, 4)), "y": np.zeros((3, 1))}))


def test_sizes_as_people_write_them():
    assert [tables.size(n) for n in (0, 999, 1000, 41_300, 4_070_174, 2.5e9)] == ["0 B", "999 B", "1 kB", "41.3 kB", "4.07 MB", "2.5 GB"]
    assert tables.times_smaller(200, 50) == "4.00 times smaller"
    assert tables.times_smaller(50, 55) == "1.10 times larger"
    assert tables.short_name("a/Conv2D;b/BiasAdd") == "a/Conv2D"
    assert len(tables.short_name("x" * 300)) <= 56
    assert tables.model_names(["a/m.tflite", "b/m.tflite"]) == ["a/m.tflite", "b/m.tflite"]
    assert tables.model_names(["a/m.tflite", "b/n.tflite"]) == ["m.tflite", "n.tflite"]
