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


def test_names_are_cut_and_those_of_inputs_and_outputs_kept(model_path):
    model, before = Model.read(model_path), Model.read(model_path)
    slim.drop_ballast(model)
    graph, old = model.schema.subgraphs[0], before.schema.subgraphs[0]
    ends = {int(graph.inputs[0]), int(graph.outputs[0])}
    fused = [i for i, tensor in enumerate(old.tensors) if b";" in tensor.name and i not in ends]
    assert len(fused) >= 3
    for i, (tensor, original) in enumerate(zip(graph.tensors, old.tensors)):
        assert tensor.name == (original.name if i in ends else original.name.split(b";")[0])


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
    # 4 + 4 + 1 operators, about 30 tensors: what is left are offsets and shapes
    assert report.file_bytes_after - blobs < 6500
