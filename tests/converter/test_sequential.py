"""Rounding layer after layer, and the two versions of a model that it runs in pieces."""

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import Graph, model_tree, write
from tflite_smart.converter import convert, encoding, layer_statistics, pieces, search, sequential
from tflite_smart.converter.compress import TensorSettings
from tflite_smart.converter.format import to_matrix
from tflite_smart.converter.model_editor import Model

SEED, CHANNELS, RESIDUAL_BLOCKS = 5, 16, 3
SHAPE = (1, 6, 6, CHANNELS)


def inputs(count, seed):
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, 6, 6, 5)) @ np.random.default_rng(SEED).standard_normal((5, CHANNELS))
    return np.maximum(mixed, 0).astype(np.float32)


def residual_model(path):
    """Convolution after convolution, each added to its input."""
    tree, rng = model_tree(), np.random.default_rng(SEED)
    graph = Graph(tree)
    x = start = graph.tensor("x", SHAPE)
    options = schema.Conv2DOptionsT(padding=schema.Padding.SAME, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=schema.ActivationFunctionType.NONE)
    for number in range(RESIDUAL_BLOCKS):
        weight = graph.constant(f"w{number}", rng.normal(0, 0.08, (CHANNELS, 3, 3, CHANNELS)).astype(np.float32))
        bias = graph.constant(f"b{number}", rng.normal(0, 0.1, CHANNELS).astype(np.float32))
        y, total = graph.tensor(f"y{number}", SHAPE), graph.tensor(f"sum{number}", SHAPE)
        graph.op("CONV_2D", [x, weight, bias], [y], options)
        graph.op("ADD", [x, y], [total], schema.AddOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU))
        x = total
    graph.finish([start], [x])
    return str(write(tree, path))


@pytest.fixture
def source(tmp_path):
    return residual_model(tmp_path / "plain.tflite")


def outputs(path, data):
    interpreter, found = search.open_interpreter(str(path)), []
    interpreter.allocate_tensors()
    for sample in data:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(found)


def pair_of(source, folder, count=8):
    return pieces.Pair(source, layer_statistics.samples(source, inputs(count, 1)), str(folder))


def everything(source, data):
    """All tensors after a run of the whole model."""
    interpreter = litert.Interpreter(source, experimental_preserve_all_tensors=True, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], data)
    interpreter.invoke()
    return interpreter


def test_pieces_compute_what_the_whole_model_does(source, tmp_path):
    pair, whole = pair_of(source, tmp_path), everything(source, inputs(8, 1)[:1])
    operators = Model.read(source).schema.subgraphs[0].operators
    for number, op in enumerate(operators):
        pair.reach(number)
        for index in map(int, op.inputs):
            if pair.values(index) is not None:
                before, now = pair.values(index)
                assert len(before) == len(now) == 8 and np.allclose(before[0], whole.get_tensor(index), atol=1e-4) and np.array_equal(before, now)
    assert not pair.differs


def test_replaced_weights_change_only_the_second_version(source, tmp_path):
    pair, model = pair_of(source, tmp_path), Model.read(source)
    first, add = model.schema.subgraphs[0].operators[:2]
    buffer = model.schema.subgraphs[0].tensors[int(first.inputs[1])].buffer
    pair.replace(buffer, np.zeros((CHANNELS, 3, 3, CHANNELS), np.float32))
    pair.reach(2)
    before, now = pair.values(int(add.outputs[0]))
    bias = np.asarray(model.values(model.schema.subgraphs[0].tensors[int(first.inputs[2])]))
    assert np.allclose(now[3], np.maximum(inputs(8, 1)[3] + bias, 0), atol=1e-5) and not np.allclose(before[3], now[3], atol=0.1)


def test_memory_bounds_the_samples(source, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_KEPT_BYTES", 1)
    pair = pair_of(source, tmp_path, 100)
    assert pair.num_samples == pieces._LEAST_SAMPLES - 7 and not pair.has_all, "every fourth of 100"


def test_some_samples_are_enough_only_where_a_layer_has_many_positions(source, tmp_path, monkeypatch):
    """25 samples of 36 positions are 900 vectors, of 144 numbers each."""
    model = Model.read(source)
    layer = layer_statistics.layers_of(model, encoding.find_weights(model)[0])[0]
    op = model.schema.subgraphs[0].operators[0]
    assert sequential._shows_enough(model, layer, op, pair_of(source, tmp_path, 25))
    monkeypatch.setattr(pieces, "_KEPT_BYTES", 1)
    assert sequential._shows_enough(model, layer, op, pair_of(source, tmp_path, 100))
    monkeypatch.setattr(layer_statistics, "ROWS_PER_ELEMENT", 7)
    assert not sequential._shows_enough(model, layer, op, pair_of(source, tmp_path, 100))


def test_the_target_is_the_least_squares_answer(source, tmp_path):
    """Behind a coarse first layer, whose error the second one's inputs show, and which is added to its output: on the same inputs no other weights come closer to the original's sum."""
    model = Model.read(source)
    planned = [encoding.Planned(weight, TensorSettings(relative_error=0.4)) for weight in encoding.find_weights(model)[0]]
    pair = pair_of(source, tmp_path, 64)
    coarse = planned[0].weight.values() * (np.random.default_rng(2).random(planned[0].weight.info.shape) < 0.7)
    pair.replace(planned[0].weight.buffer, coarse.astype(np.float32))
    layer, weight = layer_statistics.layers_of(model, [entry.weight for entry in planned])[1], planned[1].weight
    pair.reach(2)
    matrix = to_matrix(weight.values(), weight.info.axis)
    target = sequential._look(model, layer, weight.sites[0].op, matrix, pair).target
    before, now = (np.concatenate([layer.vectors(x, 1 << 20, np.random.default_rng(0)) for x in version]) for version in pair.values(layer.tensor))
    beside = np.concatenate([(a - b).reshape(-1, CHANNELS) for a, b in zip(*pair.values(layer.tensor))])
    error = lambda weights: np.square(before @ matrix.T + beside - now @ weights.T).mean()  # noqa: E731
    best = np.linalg.lstsq(now, before @ matrix.T + beside, rcond=None)[0].T
    assert error(best) < error(target) < 1.1 * error(best) + 1e-6 and error(target) < 0.9 * error(matrix)


def test_it_is_worth_a_decibel_on_other_inputs(source, tmp_path, monkeypatch):
    """At 2 bits a weight, the same file size, residual blocks and all."""
    unseen, recipe = inputs(64, 9), {"global_config": {"relative_error": 0.3}}
    whole, noise, sizes = outputs(source, unseen), [], []
    for number in range(2):
        report = convert.convert(source, recipe, calibration_data=inputs(256, 1), output=tmp_path / f"{number}.tflite")
        noise.append(np.square(outputs(tmp_path / f"{number}.tflite", unseen) - whole).mean())
        sizes.append(report.file_bytes_after)
        monkeypatch.setattr(convert, "_pair", lambda job: None)
    assert 10 * np.log10(noise[1] / noise[0]) > 1 and abs(sizes[0] / sizes[1] - 1) < 0.02


def test_a_model_that_is_no_row_of_operators_is_rounded_all_the_same(source, tmp_path):
    model = Model.read(source)
    model.schema.subgraphs[0].tensors[int(model.schema.subgraphs[0].operators[0].outputs[0])].isVariable = True
    model.write(tmp_path / "variable.tflite")
    with pytest.raises(pieces.Unsuitable):
        pair_of(str(tmp_path / "variable.tflite"), tmp_path)


def test_a_piece_that_does_not_run_ends_the_looking_not_the_conversion(source, monkeypatch):
    def refuse(pair, operator):
        raise pieces.Unsuitable("no")

    monkeypatch.setattr(pieces.Pair, "reach", refuse)
    assert len(convert.convert(source, calibration_data=inputs(32, 1)).packed) == RESIDUAL_BLOCKS
