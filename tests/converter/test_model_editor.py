"""Reading and writing: everything survives, constants are aligned, damaged files give named errors and leave nothing behind."""

import os
import struct
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import Graph, differences, fill, model_tree, packed
from tflite_smart.converter import control_dependencies, model_writer
from tflite_smart.converter.errors import ModelFormatError, OutputExistsError, TFLiteSmartError
from tflite_smart.converter.model_editor import Model


def everything() -> schema.ModelT:
    """A model that uses every table of the schema that a converter could touch. It is well-formed, not runnable."""
    tree, counter = model_tree(), [1]
    graph, body = Graph(tree), Graph(tree, "body")
    details = schema.CustomQuantizationT(np.arange(5, dtype=np.uint8))
    weights = graph.constant("weights", np.arange(600, dtype=np.int8).reshape(20, 30), ([0.5] * 20, [0] * 20, 0))
    quantization = graph.subgraph.tensors[weights].quantization
    quantization.min, quantization.max = np.float32([-1]), np.float32([1])
    quantization.detailsType, quantization.details = schema.QuantizationDetails.CustomQuantization, details
    block = graph.tensor("blockwise", (2, 2), "int8")
    graph.subgraph.tensors[block].quantization = schema.QuantizationParametersT(
        detailsType=schema.QuantizationDetails.BlockwiseQuantization, details=schema.BlockwiseQuantizationT(3, 4, 32)
    )
    sparse = graph.constant("sparse", np.arange(3, dtype=np.float32))
    dimension = schema.DimensionMetadataT(
        schema.DimensionType.SPARSE_CSR, 4, schema.SparseIndexVector.Int32Vector, schema.Int32VectorT(np.array([0, 1], np.int32)),
        schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT(np.array([3], np.uint8)),
    )  # fmt: skip
    graph.subgraph.tensors[sparse].sparsity = schema.SparsityParametersT(np.array([0], np.int32), np.array([], np.int32), [dimension])
    variable = graph.tensor("variable", (1, 4), isVariable=True, shapeSignature=np.array([-1, 4], np.int32))
    graph.subgraph.tensors[variable].variantTensors = [schema.VariantSubTypeT(np.array([2], np.int32), schema.TensorType.INT64, True)]
    x, y = graph.tensor("x", (1, 30)), graph.tensor("y", (1, 20), externalBuffer=1)
    first = graph.op("FULLY_CONNECTED", [x, weights, -1], [y], fill(schema.FullyConnectedOptionsT, counter), 9)
    first.intermediates, first.mutatingVariableInputs, first.debugMetadataIndex = np.array([variable], np.int32), np.array([False, True, False]), 3
    second = graph.op("vendor.Op", [y, sparse], [block], customOptions=np.arange(17, dtype=np.uint8))
    second.builtinOptions2Type = schema.BuiltinOptions2.StablehloConcatenateOptions
    second.builtinOptions2 = schema.StablehloConcatenateOptionsT(7)
    graph.finish([x], [block])
    graph.subgraph.debugMetadataIndex = 2
    graph.op("WHILE", [block], [block], schema.WhileOptionsT(1, 1))
    inner = body.constant("inner", np.arange(40, dtype=np.float32))
    body.op("CUSTOM_LIKE", [inner], [inner])
    body.finish([inner], [inner])
    tree.metadata = [schema.MetadataT(b"vendor", graph.buffer(np.arange(9, dtype=np.uint8)))]
    tree.metadataBuffer = np.array([tree.metadata[0].buffer], np.int32)
    tree.signatureDefs = [schema.SignatureDefT([schema.TensorMapT(b"in", x)], [schema.TensorMapT(b"out", block)], b"serve", 0), schema.SignatureDefT(signatureKey=b"second", subgraphIndex=1)]
    tree.externalBufferGroups = [schema.ExternalBufferGroupT(b"weights.bin")]
    tree.externalBuffers = [schema.ExternalBufferT(1, 0, 64, 128, b"raw")]
    return tree


def test_everything_survives(tmp_path):
    original = Model.read(packed(everything()))
    assert len(original.schema.subgraphs) == 2 and not original.unknown
    original.write(tmp_path / "a.tflite")
    assert differences(original.schema, Model.read(tmp_path / "a.tflite").schema) == []


def test_an_edit_changes_nothing_else(tmp_path):
    edited, original = Model.read(packed(everything())), Model.read(packed(everything()))
    edited.set_metadata("ours", b"hello")
    edited.write(tmp_path / "a.tflite")
    found = differences(original.schema, Model.read(tmp_path / "a.tflite").schema)
    assert found == ["model.buffers: 5 and 6 entries", "model.metadata: 1 and 2 entries"]
    edited.set_metadata("ours", None)
    assert differences(original.schema, edited.schema) == []


def test_the_comparison_sees_every_kind_of_difference():
    a, b = Model.read(packed(everything())).schema, Model.read(packed(everything())).schema
    b.subgraphs[0].tensors[0].quantization.details.custom = np.arange(6, dtype=np.uint8)
    b.subgraphs[0].operators[0].debugMetadataIndex = 4
    b.signatureDefs[0].signatureKey = b"other"
    assert len(differences(a, b)) == 3


def test_writing_is_deterministic(tmp_path):
    Model.read(packed(everything())).write(tmp_path / "a.tflite")
    Model.read(tmp_path / "a.tflite").write(tmp_path / "b.tflite")
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


@pytest.mark.parametrize("size", [1, 15, 16, 17, 63, 64, 65, 65535, 65536, 70000])
def test_constants_are_aligned(tmp_path, size):
    tree = model_tree()
    graph = Graph(tree)
    for number in range(4):
        graph.constant(f"c{number}", np.full(size + number, number, np.uint8))
    graph.constant("packed", np.frombuffer(b"TFSW" + bytes(size), np.uint8))
    graph.finish([], [])
    Model(tree).write(tmp_path / "a.tflite")
    model = Model.read(tmp_path / "a.tflite")
    for index, buffer in enumerate(model.schema.buffers[1:]):
        offset = buffer.data.ctypes.data - model.address
        large = len(buffer.data) >= 65536
        assert offset % (model_writer.LARGE_ALIGNMENT if large else model_writer.SMALL_ALIGNMENT) == 0
        assert np.all(buffer.data == index) or index == 4


def test_constants_are_views_of_the_file(tmp_path):
    Model.read(packed(everything())).write(tmp_path / "a.tflite")
    model = Model.read(tmp_path / "a.tflite")
    data = model.schema.buffers[1].data
    assert model.address <= data.ctypes.data < model.address + model.file_bytes and not data.flags.writeable


def outside_model(tmp_path) -> str:
    """A file with a buffer and custom options behind the flatbuffer, as litert-quantizer writes large ones, made without our writer."""
    tree = everything()
    tree.buffers[1].data, tree.buffers[1].offset, tree.buffers[1].size = None, 2, 600
    op = tree.subgraphs[0].operators[1]
    op.customOptions, op.largeCustomOptionsOffset, op.largeCustomOptionsSize = None, 2, 17
    start = len(packed(tree))
    tree.buffers[1].offset, op.largeCustomOptionsOffset = start + 8, start + 608
    path = tmp_path / "outside.tflite"
    path.write_bytes(packed(tree) + b"\xee" * 8 + np.arange(600, dtype=np.int8).tobytes() + bytes(range(17)))
    return str(path)


def test_bytes_outside_the_flatbuffer_are_read_and_written(tmp_path):
    model = Model.read(outside_model(tmp_path))
    assert model.outside == {1}
    assert np.array_equal(model.values(model.schema.subgraphs[0].tensors[0]).reshape(-1), np.arange(600, dtype=np.int8))
    assert bytes(model.schema.subgraphs[0].operators[1].customOptions) == bytes(range(17))
    model.write(tmp_path / "a.tflite")
    again = Model.read(tmp_path / "a.tflite")
    assert again.outside == {1} and differences(model.schema, again.schema) == []
    raw = schema.ModelT.InitFromPackedBuf((tmp_path / "a.tflite").read_bytes())
    assert raw.buffers[1].data is None and raw.buffers[1].offset % 64 == 0 and raw.buffers[1].size == 600
    assert raw.subgraphs[0].operators[1].largeCustomOptionsOffset > raw.buffers[1].offset


def test_what_exceeds_the_flatbuffer_goes_outside(tmp_path, monkeypatch):
    model = Model.read(packed(everything()))
    monkeypatch.setattr(model_writer, "_FLATBUFFER_LIMIT", 500)
    model.write(tmp_path / "a.tflite")
    monkeypatch.undo()
    again = Model.read(tmp_path / "a.tflite")
    assert again.outside == {1} and differences(model.schema, again.schema) == []


def test_bytes_beyond_2_gb_are_read(tmp_path):
    """A hole in the file, then a constant and custom options: offsets of more than 31 bits."""
    model = Model.read(outside_model(tmp_path))
    model.write(tmp_path / "a.tflite")
    content, far = (tmp_path / "a.tflite").read_bytes(), (1 << 31) + 64
    raw = schema.ModelT.InitFromPackedBuf(bytearray(content))
    moved = [(raw.buffers[1], "offset", raw.buffers[1].size), (raw.subgraphs[0].operators[1], "largeCustomOptionsOffset", raw.subgraphs[0].operators[1].largeCustomOptionsSize)]
    with open(tmp_path / "far.tflite", "wb") as file:
        for owner, field, size in moved:
            file.seek(far)
            start = getattr(owner, field)
            file.write(content[start : start + size])
            setattr(owner, field, far)
            far += 4096
        file.seek(0)
        file.write(packed(raw))
    assert os.path.getsize(tmp_path / "far.tflite") > 1 << 31
    assert differences(Model.read(tmp_path / "far.tflite").schema, model.schema) == []


def test_an_appended_archive_survives(tmp_path):
    path = tmp_path / "a.tflite"
    Model.read(packed(everything())).write(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    model = Model.read(path)
    model.set_metadata("ours", bytes(1000))
    model.write(tmp_path / "b.tflite")
    with zipfile.ZipFile(tmp_path / "b.tflite") as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n" and archive.testzip() is None
    again = Model.read(tmp_path / "b.tflite")
    assert again.metadata("ours") == bytes(1000)
    again.write(tmp_path / "c.tflite")
    assert (tmp_path / "b.tflite").read_bytes() == (tmp_path / "c.tflite").read_bytes()


def test_every_truncation_is_a_named_error_or_harmless(tmp_path):
    Model.read(packed(everything())).write(tmp_path / "a.tflite")
    data = (tmp_path / "a.tflite").read_bytes()
    refused = 0
    for length in range(0, len(data), 7):
        try:
            Model.read(data[:length])
        except TFLiteSmartError:
            refused += 1
    # Only the zero padding behind the last constant may be cut off.
    assert refused >= len(range(0, len(data) - 64, 7))


def test_random_bytes_are_a_named_error():
    rng = np.random.default_rng(5)
    for size in (0, 1, 7, 8, 100, 5000):
        for start in (b"", b"\x1c\0\0\0TFL3"):
            with pytest.raises(ModelFormatError):
                Model.read((start + rng.bytes(size))[: max(size, 8)])


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    Model.read(packed(everything())).write(tmp_path / "a.tflite")
    data = np.frombuffer((tmp_path / "a.tflite").read_bytes(), np.uint8)
    rng = np.random.default_rng(6)
    for _ in range(400):
        damaged = data.copy()
        where = rng.integers(0, len(data), 4)
        damaged[where] = rng.integers(0, 256, 4)
        try:
            Model.read(damaged.tobytes())
        except TFLiteSmartError as error:
            assert "Received" in str(error)


@pytest.mark.parametrize(("field", "value"), [("buffer", 99), ("shape", np.array([7, 7], np.int32))])
def test_indices_and_sizes_are_checked(field, value):
    tree = everything()
    setattr(tree.subgraphs[0].tensors[0], field, value)
    with pytest.raises(ModelFormatError, match="weights: buffer"):
        Model.read(packed(tree))


def test_a_missing_file_is_a_named_error(tmp_path):
    with pytest.raises(ModelFormatError, match="No such file"):
        Model.read(tmp_path / "none.tflite")
    with pytest.raises(ModelFormatError, match="path must be"):
        Model.read(tmp_path)


def test_outputs_are_protected(tmp_path):
    model = Model.read(packed(everything()))
    target = tmp_path / "a.tflite"
    target.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="overwrite"):
        model.write(target)
    with pytest.raises(OutputExistsError, match="folder must exist"):
        model.write(tmp_path / "no" / "a.tflite")
    with pytest.raises(OutputExistsError, match="must be a file"):
        model.write(tmp_path, overwrite=True)

    def refuse(path):
        raise ModelFormatError("no")

    with pytest.raises(ModelFormatError):
        model.write(target, overwrite=True, check=refuse)
    assert target.read_bytes() == b"mine" and os.listdir(tmp_path) == ["a.tflite"]
    model.write(target, overwrite=True)
    assert os.listdir(tmp_path) == ["a.tflite"] and Model.read(target)


def with_unknown_fields() -> bytes:
    """The model with a number, a string and a table in slots that the schema does not have: in the model, a tensor and an operator."""
    tree = everything()

    class Newer(flatbuffers.Builder):
        def StartObject(self, numfields):
            self.known = numfields
            super().StartObject(numfields + 4 if numfields in extended else numfields)

        def EndObject(self):
            if self.known in extended:
                self.PrependUOffsetTRelativeSlot(self.known, text, 0)
                self.PrependInt8Slot(self.known + 1, 5, 0)
                self.PrependFloat64Slot(self.known + 2, 2.5, 0)
                self.PrependUOffsetTRelativeSlot(self.known + 3, table, 0)
            return super().EndObject()

    extended = set()
    builder = Newer(1024)
    text = builder.CreateString("a newer field")
    inner = builder.CreateString("inside")
    builder.StartObject(3)
    builder.PrependInt32Slot(0, 1234567, 0)
    builder.PrependUOffsetTRelativeSlot(2, inner, 0)
    table = builder.EndObject()
    extended |= {10, 11, 14}  # the number of fields of Model, Tensor and Operator
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_unknown_fields_survive(tmp_path):
    model = Model.read(with_unknown_fields())
    num_tensors, num_operators = sum(len(s.tensors) for s in model.schema.subgraphs), sum(len(s.operators) for s in model.schema.subgraphs)
    assert len(model.unknown) == 1 + num_tensors + num_operators
    values = [field.value for field in model.unknown[0].fields]
    assert values[0].data == b"a newer field" and values[1][:1] == b"\x05" and struct.unpack("<d", values[2]) == (2.5,)
    assert [getattr(field.value, "data", field.value) for field in values[3].fields] == [struct.pack("<i", 1234567), b"inside"]
    model.write(tmp_path / "a.tflite")
    again = Model.read(tmp_path / "a.tflite")
    assert differences(model.schema, again.schema) == []
    assert [entry.fields for entry in again.unknown] == [entry.fields for entry in model.unknown]


def test_operator_options_of_an_unknown_type_survive(tmp_path, monkeypatch):
    data = packed(everything())
    original = schema.BuiltinOptionsCreator
    unknown = schema.BuiltinOptions.FullyConnectedOptions
    monkeypatch.setattr(schema, "BuiltinOptionsCreator", lambda kind, table: None if kind == unknown else original(kind, table))
    Model.read(data).write(tmp_path / "a.tflite")
    monkeypatch.undo()
    assert differences(Model.read(data).schema, Model.read(tmp_path / "a.tflite").schema) == []


def test_control_dependencies_follow_their_operators():
    tree = everything()
    edges = [[(0, 1), (1, 2)], [(-2, 0)]]
    model = Model(tree)
    model.set_metadata(control_dependencies.ENTRY, control_dependencies.serialize(edges))
    assert control_dependencies.parse(model.metadata(control_dependencies.ENTRY)) == edges
    model.set_metadata(control_dependencies.ENTRY, control_dependencies.serialize([[(0, 1), (1, 2)], []]))
    before = control_dependencies.operator_order(model)
    operators = tree.subgraphs[0].operators
    operators.insert(1, schema.OperatorT())
    del operators[0]
    control_dependencies.renumber(model, before)
    assert control_dependencies.parse(model.metadata(control_dependencies.ENTRY)) == [[(1, 2)], []]


def test_control_dependencies_in_lite_rts_bytes():
    # Version 1, one subgraph, two pairs: (0, 1) and (2, 300); 600 = 4 * 128 + 88 as a varint.
    data = bytes([1, 1, 2, 0, 2, 4, 88 + 128, 4])
    assert control_dependencies.parse(data) == [[(0, 1), (2, 300)]]
    assert control_dependencies.serialize([[(0, 1), (2, 300)]]) == data
