"""The pipeline: reports, reproducible files, a check that really fails, and errors that leave nothing behind."""

import dataclasses
import json
import os
import warnings

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import Graph, differences, model_tree, slimmed, write
from tflite_smart.converter import check, encoding
from tflite_smart.converter.convert import convert
from tflite_smart.converter.errors import ModelFormatError, OutputExistsError, RecipeError, UnsupportedModelError, VerificationError
from tflite_smart.converter.expand import expand
from tflite_smart.converter.model_editor import Model

RECIPE = {"min_weight_elements": 256, "bias_bits": 32}


def dense_tree(sizes=(64, 96, 40), seed=3):
    """A chain of FULLY_CONNECTED and RELU with Laplacian weights, and one layer too small to pack."""
    tree, rng = model_tree(), np.random.default_rng(seed)
    graph = Graph(tree)
    x = last = graph.tensor("x", (1, sizes[0]))
    for number, (rows, columns) in enumerate(zip((*sizes[1:], 4), sizes)):
        w = graph.constant(f"net/dense_{number}/MatMul", rng.laplace(0, 0.1, (rows, columns)).astype(np.float32))
        b = graph.constant(f"bias_{number}", rng.normal(size=rows).astype(np.float32))
        y = graph.tensor(f"net/dense_{number}/BiasAdd", (1, rows))
        graph.op("FULLY_CONNECTED", [last, w, b], [y], schema.FullyConnectedOptionsT(schema.ActivationFunctionType.RELU))
        last = y
    graph.finish([x], [last])
    return tree


@pytest.fixture
def source(tmp_path):
    return write(dense_tree(), tmp_path / "plain.tflite")


def test_the_report_says_what_was_done(source, tmp_path):
    phases = []
    report = convert(source, RECIPE, output=tmp_path / "smart.tflite", progress=lambda *what: phases.append(what))
    assert [row.name for row in report.packed] == ["net/dense_0/MatMul", "net/dense_1/MatMul"]
    assert [row.layer for row in report.packed] == ["net/dense_0", "net/dense_1"]
    assert [(row.name, row.skipped) for row in report.skipped] == [("net/dense_2/MatMul", "fewer than min_weight_elements=256")]
    first = report.packed[0]
    assert first.bytes_before == 4 * 96 * 64 and 0 < first.bytes_after < first.bytes_before / 3 and 2 < first.bits_per_weight < 9
    assert 0 < first.relative_error < 0.2 and first.max_error > 0 and first.runs_as == "FullyConnected"
    assert report.file_bytes_before == os.path.getsize(source) and report.file_bytes_after == os.path.getsize(tmp_path / "smart.tflite")
    values = json.loads(report.to_json())
    assert values["totals"]["num_packed"] == 2 and len(values["rows"]) == 3 and values["rows"][0]["shape"] == [96, 64]
    assert {phase for phase, _, _ in phases} >= {"read", "encode", "write", "check"} == set(report.seconds) & {"read", "encode", "write", "check"}
    assert all(0 <= done <= total for _, done, total in phases)


def test_paths_and_bytes_give_the_same_file(source, tmp_path):
    for name in ("a", "b"):
        convert(source, RECIPE, output=tmp_path / name)
    with open(source, "rb") as file:
        convert(file.read(), RECIPE, output=tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_without_output_nothing_is_written(source, tmp_path):
    before = sorted(os.listdir(tmp_path))
    report = convert(source, RECIPE)
    assert report.output is None and 0 < report.file_bytes_after < report.file_bytes_before and sorted(os.listdir(tmp_path)) == before


def test_the_model_says_what_it_needs(source, tmp_path):
    convert(source, RECIPE, output=tmp_path / "smart.tflite")
    about = json.loads(Model.read(tmp_path / "smart.tflite").metadata("TFLITE_SMART"))
    assert about["recipe"] == "custom" and "delegate" in about["requires"] and {"format_version", "tool_version"} <= about.keys()


def test_packed_weights_lie_aligned_and_no_plain_copy_stays(source, tmp_path):
    convert(source, RECIPE, output=tmp_path / "smart.tflite")
    model = Model.read(tmp_path / "smart.tflite")
    packed = [buffer.data for buffer in model.schema.buffers if buffer.data is not None and bytes(buffer.data[:4]) == b"TFSW"]
    assert len(packed) == 2 and all((data.ctypes.data - model.address) % 16 == 0 for data in packed)
    assert max(len(buffer.data) for buffer in model.schema.buffers if buffer.data is not None) == max(map(len, packed))


def test_expand_gives_back_everything_but_the_weights(source, tmp_path):
    convert(source, RECIPE, output=tmp_path / "smart.tflite")
    expand(tmp_path / "smart.tflite", tmp_path / "plain2.tflite")
    original, again = Model.read(source), Model.read(tmp_path / "plain2.tflite")
    assert differences(slimmed(original), slimmed(again)) == ["model.buffers[1].data", "model.buffers[3].data"]
    for tensor in (1, 4):
        a, b = (m.values(m.schema.subgraphs[0].tensors[tensor]) for m in (original, again))
        assert 0 < np.sqrt(np.mean((a - b) ** 2) / np.mean(a**2)) < 0.2


def test_weights_that_would_not_shrink_stay(tmp_path):
    tree, rng = model_tree(), np.random.default_rng(1)
    graph = Graph(tree)
    x, y = graph.tensor("x", (1, 64)), graph.tensor("y", (1, 512))
    w = graph.constant("noise", rng.integers(-128, 128, (512, 64)).astype(np.int8), ([0.1], [0], 0))
    graph.op("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT())
    graph.finish([x], [y])
    report = convert(write(tree, tmp_path / "a.tflite"), RECIPE, output=tmp_path / "b.tflite")
    assert not report.packed and report.skipped[0].skipped.startswith("would not shrink")
    assert (tmp_path / "b.tflite").read_bytes() == (tmp_path / "a.tflite").read_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_stay(tmp_path, value):
    tree = dense_tree()
    data = np.frombuffer(tree.buffers[1].data, np.float32).copy()
    data[5] = value
    tree.buffers[1].data = data.view(np.uint8)
    report = convert(write(tree, tmp_path / "a.tflite"), RECIPE)
    assert "finite" in report.skipped[0].skipped and len(report.packed) == 1
    with warnings.catch_warnings():  # a search measures it as little as it packs it
        warnings.simplefilter("error")
        assert "finite" in convert(tmp_path / "a.tflite", "balanced").skipped[0].skipped


def test_the_check_sees_one_changed_weight(source, tmp_path, monkeypatch):
    """The encoder stores other values than it meant to: as if it had a bug."""
    original = encoding.compress_tensor

    def wrong(*arguments):
        result = original(*arguments)
        ids = result.quantized.ids.copy()
        ids[3, 7] += 1
        return dataclasses.replace(result, quantized=dataclasses.replace(result.quantized, ids=ids))

    monkeypatch.setattr(encoding, "compress_tensor", wrong)
    with pytest.raises(VerificationError, match="net/dense_0/MatMul: packed weight must decode"):
        convert(source, RECIPE, output=tmp_path / "smart.tflite")
    assert os.listdir(tmp_path) == ["plain.tflite"]


def test_the_check_sees_a_wrong_error_bound(source, tmp_path, monkeypatch):
    original = encoding.compress_tensor

    def wrong(*arguments):
        result = original(*arguments)
        return dataclasses.replace(result, max_error=result.max_error * 0.9)

    monkeypatch.setattr(encoding, "compress_tensor", wrong)
    with pytest.raises(VerificationError, match="error must be at most"):
        convert(source, RECIPE, output=tmp_path / "smart.tflite")


def test_the_check_sees_bytes_that_changed_on_the_way(source, tmp_path, monkeypatch):
    original = check.check_file

    def damage(path, encoded, buffers, step):
        entry = list(encoded)[1]
        with open(path, "r+b") as file:
            data = file.read()
            file.seek(data.index(entry.blob) + len(entry.blob) // 2)
            file.write(b"\xff\xff")
        original(path, encoded, buffers, step)

    monkeypatch.setattr(check, "check_file", damage)
    with pytest.raises(VerificationError, match="net/dense_1/MatMul: packed weight must be in the file"):
        convert(source, RECIPE, output=tmp_path / "smart.tflite")
    assert os.listdir(tmp_path) == ["plain.tflite"]


def test_the_numpy_decoder_checks_as_well(source, tmp_path, monkeypatch):
    monkeypatch.setenv("TFLITE_SMART_LIBRARY", str(tmp_path / "none.so"))
    report = convert(source, RECIPE, output=tmp_path / "a.tflite")
    monkeypatch.undo()
    convert(source, RECIPE, output=tmp_path / "b.tflite")
    assert len(report.packed) == 2 and (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


def test_bad_input_is_named_and_leaves_nothing(source, tmp_path):
    output = tmp_path / "out.tflite"
    (tmp_path / "random.tflite").write_bytes(np.random.default_rng(0).bytes(5000))
    with open(source, "rb") as file:
        (tmp_path / "cut.tflite").write_bytes(file.read()[:9000])
    before = sorted(os.listdir(tmp_path))
    for path in ("random.tflite", "cut.tflite", "missing.tflite"):
        with pytest.raises(ModelFormatError, match=path):
            convert(str(tmp_path / path), RECIPE, output=output)
    with pytest.raises(RecipeError):
        convert(source, {"nonsense": 1}, output=output)
    with pytest.raises(RecipeError, match="matches none"):
        convert(source, {"op_name_configs": {"no such layer": None}}, output=output)
    with pytest.raises(OutputExistsError):
        convert(source, RECIPE, output=source)
    with pytest.raises(UnsupportedModelError, match="none"):
        expand(source, output)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_compressed_model_is_not_compressed_again(source, tmp_path):
    convert(source, RECIPE, output=tmp_path / "smart.tflite")
    with pytest.raises(UnsupportedModelError, match="expand"):
        convert(tmp_path / "smart.tflite", RECIPE, output=tmp_path / "again.tflite")


def test_an_interrupted_write_leaves_the_old_file(source, tmp_path, monkeypatch):
    target = tmp_path / "smart.tflite"
    target.write_bytes(b"the old one")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        convert(source, RECIPE, output=target, overwrite=True)
    assert target.read_bytes() == b"the old one" and sorted(os.listdir(tmp_path)) == ["plain.tflite", "smart.tflite"]


def test_weights_outside_the_flatbuffer(tmp_path):
    model = Model(dense_tree())
    model.outside = {1}
    model.write(tmp_path / "a.tflite")
    report = convert(tmp_path / "a.tflite", RECIPE, output=tmp_path / "b.tflite")
    written = Model.read(tmp_path / "b.tflite")
    assert len(report.packed) == 2 and written.outside == {1} and bytes(written.schema.buffers[1].data[:4]) == b"TFSW"


def test_smartdeal_takes_what_is_large_enough_for_bases(source, tmp_path):
    report = convert(source, {**RECIPE, "global_config": {"buckets": "smartdeal", "relative_error": 0.2}}, output=tmp_path / "smart.tflite")
    kinds = {row.value_kind for row in report.packed}
    assert "smartdeal" in kinds and kinds <= {"smartdeal", "uniform"}
    assert all(0.15 < row.relative_error < 0.25 and row.bits_per_weight < 5 for row in report.packed if row.value_kind == "smartdeal")


@pytest.mark.parametrize("relative_error", [0.005, 0.3])
def test_whether_a_small_weight_is_packed_does_not_depend_on_its_error(tmp_path, relative_error):
    """Ids of 3 bits would make the smallest smaller, ids of 8 would not."""
    tree, rng = model_tree(), np.random.default_rng(4)
    graph = Graph(tree)
    x, outputs = graph.tensor("x", (1, 8)), []
    for size in (8, 32, 64):
        outputs.append(graph.tensor(f"y{size}", (1, size)))
        weight = graph.constant(f"w{size}", rng.laplace(size=(size, 8)).astype(np.float32))
        graph.op("FULLY_CONNECTED", [x, weight, -1], [outputs[-1]], schema.FullyConnectedOptionsT())
    graph.finish([x], outputs)
    report = convert(write(tree, tmp_path / "plain.tflite"), {"global_config": {"relative_error": relative_error}})
    assert [row.name for row in report.packed] == ["w32", "w64"] and "would not shrink" in report.skipped[0].skipped
