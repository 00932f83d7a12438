"""Tables without ballast: what goes, what stays, and what equal vectors and texts cost."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import differences
from tflite_smart.converter import convert, slim
from tflite_smart.converter.model_editor import Model


@pytest.fixture(scope="module")
def model_path(request, tmp_path_factory):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow builds the model")
    import keras

    keras.utils.set_random_seed(5)
    layers = [layer for _ in range(4) for layer in (keras.layers.Conv2D(16, 3, use_bias=False), keras.layers.BatchNormalization(), keras.layers.ReLU())]
    model = keras.Sequential([keras.Input((24, 24, 3)), *layers])
    path = tmp_path_factory.mktemp("slim") / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


def test_names_that_somebody_may_look_for_are_cut_and_all_others_go(model_path):
    model, before = Model.read(model_path), Model.read(model_path)
    slim.drop_ballast(model)
    graph, old = model.schema.subgraphs[0], before.schema.subgraphs[0]
    ends = {int(graph.inputs[0]), int(graph.outputs[0])}
    kept = 0
    for i, (tensor, original) in enumerate(zip(graph.tensors, old.tensors)):
        filter_or_end = i in ends or len(tensor.shape) > 1 and model.has_data(tensor)
        kept += filter_or_end and i not in ends
        assert tensor.name == (original.name if i in ends else original.name.split(b";")[0] if filter_or_end else None)
    assert kept == 4 and len(graph.tensors) == 10


def test_the_names_that_expanding_gives_are_all_different(model_path):
    model = Model.read(model_path)
    slim.drop_ballast(model)
    model.schema.subgraphs[0].tensors[0].name = b"tensor_3"
    slim.name_nameless(model)
    names = [tensor.name for tensor in model.schema.subgraphs[0].tensors]
    assert len(set(names)) == len(names) and all(names)


def test_what_the_shape_tells_is_not_told_twice(model_path):
    model = Model.read(model_path)
    first, second, third = model.schema.subgraphs[0].tensors[:3]
    for tensor in (first, second, third):
        tensor.hasRank = True
    first.shape, first.shapeSignature = np.array([1, 2], np.int32), np.array([-1, 2], np.int32)
    second.shape, second.shapeSignature = np.array([1, 2], np.int32), np.array([1, 2], np.int32)
    third.shape, third.shapeSignature = np.array([], np.int32), None
    slim.drop_ballast(model)
    assert list(first.shapeSignature) == [-1, 2] and second.shapeSignature is None
    assert (first.hasRank, second.hasRank, third.hasRank) == (False, False, True)


def test_tensors_without_bytes_share_the_empty_buffer(model_path):
    model, before = Model.read(model_path), Model.read(model_path)
    metadata = {entry.name: model.metadata(entry.name.decode()) for entry in model.schema.metadata}
    numbers = slim.share_empty_buffers(model)
    tensors = list(zip(model.schema.subgraphs[0].tensors, before.schema.subgraphs[0].tensors))
    assert len(model.schema.buffers) == 1 + sum(before.has_data(old) for _, old in tensors) + len(metadata) < len(before.schema.buffers)
    for new, old in tensors:
        assert new.buffer == (numbers[old.buffer] if before.has_data(old) else 0)
        assert not before.has_data(old) or np.array_equal(model.values(new), before.values(old))
    assert metadata == {name: model.metadata(name.decode()) for name in metadata}


def test_a_first_buffer_with_bytes_is_not_shared(model_path):
    model = Model.read(model_path)
    model.schema.buffers[0].data = np.zeros(4, np.uint8)
    empty = [tensor for tensor in model.schema.subgraphs[0].tensors if not model.has_data(tensor)]
    slim.share_empty_buffers(model)
    assert empty and not any(model.has_data(tensor) for tensor in empty)


def test_only_empty_quantization_tables_go(model_path):
    model = Model.read(model_path)
    first, second, third = model.schema.subgraphs[0].tensors[:3]
    first.quantization = schema.QuantizationParametersT()
    second.quantization = schema.QuantizationParametersT(scale=np.array([0.5], np.float32), zeroPoint=np.array([3]))
    third.quantization = schema.QuantizationParametersT(min=np.array([0.5], np.float32))
    slim.drop_ballast(model)
    assert first.quantization is None and second.quantization.zeroPoint[0] == 3 and third.quantization.min[0] == 0.5


def test_equal_vectors_and_texts_are_stored_once_and_read_back_the_same(model_path, tmp_path):
    model = Model.read(model_path)
    model.write(tmp_path / "same.tflite")
    assert differences(Model.read(tmp_path / "same.tflite").schema, model.schema) == []
    plain = (tmp_path / "same.tflite").stat().st_size
    for tensor in model.schema.subgraphs[0].tensors:
        tensor.name = b"x" * 100
    model.write(tmp_path / "alike.tflite")
    assert (tmp_path / "alike.tflite").stat().st_size < plain


def test_converted_models_have_slim_tables(model_path):
    report = convert.convert(str(model_path), recipe={"global_config": {"relative_error": 0.1}})
    blobs = sum(row.bytes_after for row in report.packed)
    # 4 operators, 10 tensors, 4 biases: what is left are offsets and shapes
    assert len(report.packed) == 4 and 1800 < report.file_bytes_after - blobs < 2500, report.file_bytes_after - blobs
