"""The recipe's `compute`: operators ask for it, and the fidelity that is reported is that of the arithmetic that will run."""

import dataclasses
import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tflite_smart as ts
from tests.converter.hand_built import Graph, model_tree, write
from tflite_smart import cli
from tflite_smart.converter import calibration, search
from tflite_smart.converter.convert import convert
from tflite_smart.converter.expand import expand
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.passes.base import read_options
from tflite_smart.converter.probe import output_snr_db
from tflite_smart.converter.synthetic import RANGES, synthetic_inputs

INT8 = {"compute": "int8"}


@pytest.fixture
def source(tmp_path):
    """A convolution, then a dense layer."""
    tree, rng = model_tree(), np.random.default_rng(5)
    graph = Graph(tree)
    x, h, flat, y = (graph.tensor(name, shape) for name, shape in (("x", (1, 8, 8, 8)), ("conv", (1, 8, 8, 16)), ("flat", (1, 1024)), ("y", (1, 32))))
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    graph.op("CONV_2D", [x, graph.constant("conv/w", rng.uniform(-0.3, 0.3, (16, 3, 3, 8)).astype(np.float32)), graph.constant("conv/b", np.zeros(16, np.float32))], [h], options)
    graph.op("RESHAPE", [h, graph.constant("shape", np.array([1, 1024], np.int32))], [flat])
    graph.op("FULLY_CONNECTED", [flat, graph.constant("dense/w", rng.uniform(-0.3, 0.3, (32, 1024)).astype(np.float32)), -1], [y], schema.FullyConnectedOptionsT())
    graph.finish([x], [y])
    return write(tree, tmp_path / "plain.tflite")


def asked(path) -> dict[str, str | None]:
    """What the operators of ours say."""
    model = Model.read(path)
    ops = {model.op_name(op).removeprefix("TFLiteSmart."): op for op in model.schema.subgraphs[0].operators}
    return {name: read_options(ops[name]).get("compute") for name in ("Conv2D", "FullyConnected")}


@pytest.mark.parametrize(
    "recipe, expected",
    [
        ({}, {"Conv2D": None, "FullyConnected": None}),
        ({"global_config": INT8}, {"Conv2D": "int8", "FullyConnected": "int8"}),
        ({"global_config": INT8, "op_type_configs": {"CONV_2D": {"compute": "f32"}}}, {"Conv2D": "f32", "FullyConnected": "int8"}),
        ({"op_name_configs": {"dense": INT8}}, {"Conv2D": None, "FullyConnected": "int8"}),
    ],
)
def test_operators_ask_for_what_the_recipe_says(source, tmp_path, recipe, expected):
    convert(source, {"min_weight_elements": 256, **recipe}, output=tmp_path / "smart.tflite")
    assert asked(tmp_path / "smart.tflite") == expected


@pytest.mark.parametrize(
    "config, codec",
    [({}, "rans"), (INT8, "bitpack"), ({**INT8, "objective": "size"}, "rans"), ({**INT8, "objective": "latency"}, "bitpack")],
)
def test_weights_used_once_decode_fast_in_int8(source, tmp_path, config, codec):
    """The dense layer has one row. The convolution uses each weight 64 times: what decoding takes does not matter there."""
    report = convert(source, {"error_budget": 0.005, "min_weight_elements": 256, "global_config": config}, output=tmp_path / "smart.tflite")
    rows = {row.op_type: row for row in report.rows}
    assert rows["FULLY_CONNECTED"].codec == codec
    assert config is not INT8 or rows["FULLY_CONNECTED"].value_kind == "uniform"
    assert (rows["CONV_2D"].codec == "rans") == (config.get("objective") != "latency")


def test_expand_forgets_it(source, tmp_path):
    for name, recipe in (("a", {"global_config": {"objective": "size", "buckets": "dependent"}}), ("b", {"global_config": {**INT8, "objective": "size", "buckets": "dependent"}})):
        convert(source, recipe, output=tmp_path / name)
        expand(tmp_path / name, tmp_path / f"{name}.plain")
    assert (tmp_path / "a.plain").read_bytes() == (tmp_path / "b.plain").read_bytes()


def snr_db(source, smart, report) -> float:
    """Of the written model, run as its user runs it, on the probe's inputs."""
    models = [ts.Interpreter(model_path=str(path)) for path in (source, smart)]
    samples = dict(zip(RANGES, synthetic_inputs(models[0].get_input_details(), 12)))[report.measured_on]
    outputs = []
    for model in models:
        outputs.append([])
        for sample in samples:
            calibration.run(model, sample)
            outputs[-1].append([model.get_tensor(model.get_output_details()[0]["index"])])
    return output_snr_db(*outputs)


@pytest.mark.parametrize("large", [False, True])
def test_the_reported_fidelity_is_that_of_the_arithmetic_that_runs(source, tmp_path, monkeypatch, large):
    """50 dB is in reach for weights of 8 bits, not if the inputs have 8 bits too. Large models are compared
    with a compressed form of their own, computed in floats; it may be the result itself."""
    if large:
        monkeypatch.setattr(search, "_LARGE_MODEL_BYTES", 1)
        monkeypatch.setattr(search, "_LARGE", dataclasses.replace(search._LARGE, samples=12))
    reports = {}
    for name, config in (("f32", {}), ("int8", INT8)):
        reports[name] = convert(source, {"target_snr_db": 50.0, "global_config": config, "min_weight_elements": 256}, output=tmp_path / name)
    exact = reports["f32"].output_snr_db
    assert (exact is None and large or exact > 44.5) and 44.5 > reports["int8"].output_snr_db > 30
    assert any("50 dB that the recipe asks for" in note for note in reports["int8"].notes)
    assert abs(snr_db(source, tmp_path / "int8", reports["int8"]) - reports["int8"].output_snr_db) < (2 if large else 0.5)  # another reference


def test_command_line(source, tmp_path, capsys):
    output = tmp_path / "smart.tflite"
    assert cli.main(["convert", str(source), "-o", str(output), "--compute", "int8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "lossless_accuracy"
    assert asked(output) == {"Conv2D": "int8", "FullyConnected": "int8"}
    with pytest.raises(SystemExit):
        cli.main(["convert", str(source), "--compute", "int4"])
