"""Numbers at the edges: what happens is written in FORMAT.md, section 6, and is the same on every instruction set."""

import numpy as np
import pytest

from tests.delegates import models
from tests.delegates.running import run
from tflite_smart.converter.errors import UnpackableWeightError
from tflite_smart.converter.format import PackedWeight, Quantized
from tflite_smart.delegates import native

# name: (x's shape, function: rng -> model); the layer is large enough for Winograd's transform where the name says so
LAYERS = {
    "gemm": ((1, 5, 5, 8), lambda rng: models.conv_model((1, 5, 5, 8), models.random_weight(rng, (40, 3, 3, 8), 0), (3, 3, 8), activation="RELU6")),
    "winograd": ((1, 24, 24, 32), lambda rng: models.conv_model((1, 24, 24, 32), models.random_weight(rng, (40, 3, 3, 32), 0), (3, 3, 32))),
    "depthwise": ((1, 5, 5, 40), lambda rng: models.conv_model((1, 5, 5, 40), models.random_weight(rng, (1, 3, 3, 40), 3), (3, 3, 1), depth_multiplier=1)),
    "vector": ((1, 90), lambda rng: models.fully_connected_model((1, 90), models.random_weight(rng, (33, 90), 0), activation="RELU")),
}


def on_every_isa(content: bytes, x: np.ndarray) -> list[np.ndarray]:
    outputs = []
    for name in native.isa_names():
        native.force_isa(name)
        outputs.append(run(content, x))
    native.force_isa(None)
    return outputs


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_inputs(rng, layer, value):
    """One pixel that is no number: no activation makes a number of a NaN, outputs that do not see the pixel stay as they were, but for those of its Winograd tile."""
    shape, make = LAYERS[layer]
    content, x = make(rng), rng.normal(size=shape).astype(np.float32)
    clean = on_every_isa(content, x)
    x[(0, *(size // 2 for size in shape[1:]))] = value
    outputs = on_every_isa(content, x)
    for output, before in zip(outputs, clean):
        np.testing.assert_array_equal(np.isnan(output), np.isnan(outputs[0]))
        changed = output != before  # NaN differs from everything
        assert changed.any() and changed.mean() <= (1 if layer == "vector" else 0.4)
        if np.isnan(value):
            assert np.isnan(output[changed]).all()


@pytest.mark.parametrize("layer", LAYERS)
def test_denormal_and_huge_inputs(rng, layer):
    """Denormal inputs are multiplied as they are, none is flushed to 0; huge ones give huge outputs, and where nothing overflows all instruction sets agree."""
    shape, make = LAYERS[layer]
    content, x = make(rng), rng.normal(size=shape).astype(np.float32)
    for factor in (1e-42, 1e-30, 1e30):
        outputs = on_every_isa(content, (x * np.float32(factor)).astype(np.float32))
        largest = np.abs(outputs[0]).max()
        assert np.isfinite(largest)
        if layer in ("depthwise", "winograd"):  # no activation that clips
            assert 0 < float(largest) < 1e4 * factor
        for output in outputs[1:]:
            np.testing.assert_allclose(output, outputs[0], rtol=1e-3, atol=1e-4 * float(largest) + 1e-40)


@pytest.mark.parametrize("codec", ["raw", "bitpack", "sparse"])
def test_constant_tensors_and_zero_channels(rng, codec, isa):
    """A weight of one value, a channel whose scale is 0, a layer of one input and one output."""
    scales = np.array([0.5, 0, -2], np.float32)
    weight = models.pack(Quantized(np.full((3, 4), 7), "uniform", scales), 4, codec)
    x = np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_array_equal(run(models.fully_connected_model((1, 4), weight), x), [[35, 0, -140]])
    single = models.pack(Quantized(np.full((1, 1), -3), "uniform", np.ones(1, np.float32)), 1, codec)
    np.testing.assert_array_equal(run(models.conv_model((1, 1, 1, 1), single, (1, 1, 1)), np.full((1, 1, 1, 1), 2, np.float32)), [[[[-6]]]])


@pytest.mark.parametrize("shape", [(0, 5, 5, 8), (1, 1, 1, 8)])
def test_empty_and_tiny_inputs(rng, shape, isa):
    content = models.conv_model((1, 5, 5, 8), models.random_weight(rng, (40, 3, 3, 8), 0), (3, 3, 8), dynamic=True)
    assert run(content, np.ones(shape, np.float32)).shape == (*shape[:3], 40)


@pytest.mark.parametrize("scale", [3e38, 1e-38, 1e-45])
def test_huge_and_tiny_scales(scale, isa):
    """Finite scales are valid whatever they give; the product is rounded once, to infinity or to 0 as float32 does."""
    ids = np.array([[-128, -1, 0, 1, 2, 127]], np.int8)
    packed = models.pack(Quantized(ids, "uniform", np.array([scale], np.float32)), 6)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.float32(scale) * ids.astype(np.float32)
        reference = PackedWeight.from_bytes(packed.to_bytes()).expand()
    np.testing.assert_array_equal(native.expand(packed.to_bytes(), (1, 6)), expected)
    np.testing.assert_array_equal(reference, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_not_packed(value):
    from tflite_smart.converter.compress import TensorSettings, compress_tensor

    weights = np.ones((4, 8), np.float32)
    weights[2, 3] = value
    with pytest.raises(UnpackableWeightError):
        compress_tensor(weights, 0, TensorSettings())


@pytest.mark.parametrize("option", ["stride_h", "stride_w", "dilation_h", "dilation_w"])
def test_steps_beyond_any_image_are_refused(rng, option, capfd):
    """Found by the fuzzer: a filter of one tap passes every check of its reach, and the kernel steps once past it, beyond an int32."""
    content = models.conv_model((1, 3, 3, 40), models.random_weight(rng, (1, 1, 1, 40), 3), (1, 1, 1), depth_multiplier=1, **{option: 2**31 - 1})
    with pytest.raises(RuntimeError) as caught:
        run(content, np.ones((1, 3, 3, 40), np.float32))
    assert f"option {option} must be 1..65536" in str(caught.value) + capfd.readouterr().err
