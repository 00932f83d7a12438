"""The smallest weights, whose ids fit the option cache_bytes together, are decoded once: same outputs, same errors. Integer layers keep them packed for their kernels."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate

from tests.delegates import models
from tests.delegates.running import invoke, make_interpreter, run
from tflite_smart.delegates import native


def check_same_outputs(content, x, cache_bytes, **options):
    """The second run, from kept ids, equals the first one and a run that keeps none."""
    expected = run(content, x, cache_bytes=0, **options)
    interpreter = make_interpreter(content, resize=x.shape, cache_bytes=cache_bytes, **options)
    for _ in range(2):
        np.testing.assert_array_equal(invoke(interpreter, x), expected)


@pytest.mark.parametrize("codec", ["raw", "bitpack", "rans", "sparse"])
@pytest.mark.parametrize("n, panels_per_tile", [(1, 1), (31, 1), (33, 2), (100, 3), (200, 2)])
def test_same_outputs(rng, codec, n, panels_per_tile):
    weight = models.random_weight(rng, (n, 1, 1, 77), 0, codec=codec, panels_per_tile=panels_per_tile)
    x = rng.normal(size=(1, 3, 3, 77)).astype(np.float32)
    check_same_outputs(models.conv_model(x.shape, weight, (1, 1, 77)), x, 1 << 20)


@pytest.mark.parametrize("value_kind, k", [("uniform", 99), ("midrise", 99), ("codebook", 99), ("dependent", 99), ("dependent", 600)])  # 600: several pieces
def test_same_outputs_of_every_value_kind(rng, value_kind, k):
    weight = models.random_weight(rng, (70, k), 0, value_kind=value_kind, panels_per_tile=2)
    x = rng.normal(size=(1, k)).astype(np.float32)
    check_same_outputs(models.fully_connected_model(x.shape, weight), x, 1 << 20)


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("value_kind, n, k", [("uniform", 200, 77), ("uniform", 2, 3000), ("uniform", 250, 3300), ("dependent", 33, 600), ("uniform", 40, 9000), ("uniform", 32, 22000), ("codebook", 40, 77)])
def test_same_outputs_in_integers(rng, isa, value_kind, n, k, rows):
    """Panels that are wide enough are kept as the dot product reads them; narrow ones, and those whose rows are too long, are decoded as ever."""
    weight = models.random_weight(np.random.default_rng(n), (n, k), 0, value_kind=value_kind, panels_per_tile=2 if n > 32 else 1)
    x = rng.normal(size=(rows, k)).astype(np.float32)
    plain = {} if k == 77 else {"bias": rng.normal(size=n).astype(np.float32), "activation": "RELU6"}
    check_same_outputs(models.fully_connected_model(x.shape, weight, **plain), x, 1 << 20, compute="int8", num_threads=2)


@pytest.mark.parametrize("size", [1, 9])  # 1: most of the window is outside the image
@pytest.mark.parametrize("filter_in", [3, 24])  # 24: one group
def test_same_outputs_of_windows_in_integers(rng, isa, filter_in, size):
    weight = models.random_weight(rng, (48, 3, 3, filter_in), 0)
    for batch in (1, 2):
        x = rng.normal(size=(batch, size, size, 24)).astype(np.float32)
        check_same_outputs(models.conv_model(x.shape, weight, (3, 3, filter_in), padding="SAME"), x, 1 << 20, compute="int8")


def test_panels_are_packed_again_for_another_instruction_set(rng):
    weight, x = models.random_weight(rng, (200, 100), 0), rng.normal(size=(3, 100)).astype(np.float32)
    interpreter = make_interpreter(models.fully_connected_model(x.shape, weight), cache_bytes=1 << 20, compute="int8")
    expected = invoke(interpreter, x)
    try:
        for name in native.isa_names():
            native.force_isa(name)
            np.testing.assert_array_equal(invoke(interpreter, x), expected)
    finally:
        native.force_isa(None)


@pytest.mark.parametrize("cache_bytes", [0, 6999, 7000, 1 << 30])
def test_around_the_limit(rng, cache_bytes):
    weight = models.random_weight(rng, (70, 100), 0)
    x = rng.normal(size=(1, 100)).astype(np.float32)
    check_same_outputs(models.fully_connected_model(x.shape, weight), x, cache_bytes)


@pytest.mark.parametrize("cache_bytes, fails", [(0, True), (6999, True), (7000, False)])
def test_ids_are_read_from_the_file_only_once(rng, tmp_path, cache_bytes, fails):
    """A tile is damaged in the mapped file after the first run: whoever decodes it again says so."""
    weight = models.random_weight(rng, (70, 100), 0)
    path, x = tmp_path / "model.tflite", rng.normal(size=(1, 100)).astype(np.float32)
    path.write_bytes(models.fully_connected_model(x.shape, weight))
    interpreter = Interpreter(str(path), experimental_delegates=[load_delegate(native.library_path(), {"cache_bytes": cache_bytes})])
    interpreter.allocate_tensors()
    expected = invoke(interpreter, x)
    with open(path, "r+b") as file:
        file.seek(path.read_bytes().index(weight.tiles[1]) + len(weight.tiles[1]) // 2)
        file.write(bytes(100))
    if not fails:
        np.testing.assert_array_equal(invoke(interpreter, x), expected)
        return
    with pytest.raises(RuntimeError, match="tile_end must be"):
        invoke(interpreter, x)


def test_a_damaged_tile_is_an_error(rng):
    packed = models.random_weight(rng, (70, 100), 0)
    packed.tiles[1] = bytes(len(packed.tiles[1]))
    x = rng.normal(size=(1, 100)).astype(np.float32)
    with pytest.raises(RuntimeError, match="tile_end must be"):
        run(models.fully_connected_model(x.shape, packed), x, cache_bytes=1 << 20)


def dense_layers(weights) -> bytes:
    """One after another, each as wide as the next one's input."""
    model = models.ModelBuilder()
    tensors = [model.tensor(f"t{i}", (1, n)) for i, n in enumerate([weights[0].channel_elements] + [weight.num_channels for weight in weights])]
    for i, weight in enumerate(weights):
        inputs = [tensors[i], model.packed(f"weights{i}", weight), -1]
        model.custom("TFLiteSmart.FullyConnected", inputs, [tensors[i + 1]], {"activation": "NONE", "keep_num_dims": 0})
    return model.build(tensors[:1], tensors[-1:])


@pytest.mark.parametrize("cache_bytes, kept", [(0, 0), (1599, 0), (1600, 1), (4799, 1), (4800, 2), (14399, 2), (14400, 3)])
def test_the_smallest_weights_are_kept(rng, tmp_path, cache_bytes, kept):
    """1,600, 3,200 and 9,600 ids, not in that order: of a large model those that fit, whichever layer comes first."""
    weights = [models.random_weight(rng, shape, 0) for shape in [(40, 80), (40, 40), (240, 40)]]
    sizes = [3200, 1600, 9600]
    for damaged, size in zip(weights, sizes):
        path, x = tmp_path / f"{size}.tflite", rng.normal(size=(1, 80)).astype(np.float32)
        path.write_bytes(dense_layers(weights))
        interpreter = Interpreter(str(path), experimental_delegates=[load_delegate(native.library_path(), {"cache_bytes": cache_bytes})])
        interpreter.allocate_tensors()
        expected = invoke(interpreter, x)
        with open(path, "r+b") as file:
            file.seek(path.read_bytes().index(damaged.tiles[0]) + len(damaged.tiles[0]) // 2)
            file.write(bytes(100))
        if size in sorted(sizes)[:kept]:
            np.testing.assert_array_equal(invoke(interpreter, x), expected)
            continue
        with pytest.raises(RuntimeError, match="tile_end must be"):
            invoke(interpreter, x)
