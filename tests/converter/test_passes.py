"""Each graph edit on a small model: what it writes, what it leaves alone and why, and that the edited model computes what the expanded one does."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter as PlainInterpreter
from ai_edge_litert.interpreter import OpResolverType

from tests.converter.hand_built import Graph, differences, model_tree, slimmed, write
from tflite_smart import Interpreter
from tflite_smart.converter.convert import convert
from tflite_smart.converter.expand import expand
from tflite_smart.converter.model_editor import Model, indices, tensor_name
from tflite_smart.converter.passes.base import read_options
from tflite_smart.converter.passes.weight_inputs import WEIGHT_INPUTS, weight_axis
from tflite_smart.converter.probe import output_snr_db

SEED = 17
RECIPE = {"min_weight_elements": 32}
Activation, Padding = schema.ActivationFunctionType, schema.Padding


def weights(*shape, scale=0.1, dtype=np.float32):
    values = np.random.default_rng(SEED).laplace(0, scale, shape)
    return values.astype(dtype) if dtype != np.int8 else np.clip(np.round(values * 20 / scale), -127, 127).astype(np.int8)


def run(interpreter_class, path: str, **arguments) -> list[np.ndarray]:
    interpreter = interpreter_class(model_path=path, **arguments)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        rng = np.random.default_rng(SEED)
        integers = np.issubdtype(detail["dtype"], np.integer)
        values = rng.integers(0, 7, detail["shape"]) if integers else rng.normal(size=detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    for _ in range(2):  # the arena is reused from the second time on
        interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def converted(tree, tmp_path, recipe=RECIPE):
    """Report, the smart model and its path, the path of its expanded form."""
    source = write(tree, tmp_path / "plain.tflite")
    smart, plain = str(tmp_path / "smart.tflite"), str(tmp_path / "expanded.tflite")
    report = convert(source, recipe, output=smart)
    if report.packed:
        expand(smart, plain)
    return report, Model.read(smart), smart, plain


def assert_same(smart: str, plain: str, reduction: int) -> None:
    """Both sum the same products in another order: each of `reduction` additions rounds by at most half a unit in the last place of the largest partial sum."""
    for a, b in zip(run(Interpreter, smart), run(PlainInterpreter, plain)):
        if np.issubdtype(a.dtype, np.integer):
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=0, atol=reduction * 2.0**-24 * max(1.0, float(np.abs(b).max())) * 4)


def ops(model: Model) -> list[str]:
    return [model.op_name(op) for subgraph in model.schema.subgraphs for op in subgraph.operators]


def conv_tree(activation=Activation.RELU6):
    tree = model_tree()
    graph = Graph(tree)
    x, y = graph.tensor("x", (1, 9, 9, 8)), graph.tensor("y", (1, 5, 5, 48))
    w = graph.constant("filter", weights(48, 3, 3, 8))
    graph.op("CONV_2D", [x, w, graph.constant("bias", weights(48))], [y], schema.Conv2DOptionsT(Padding.SAME, 2, 2, activation), 3)
    graph.finish([x], [y])
    return tree


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU, Activation.RELU_N1_TO_1, Activation.RELU6])
def test_conv2d_becomes_one_operator(tmp_path, delegate, activation):
    report, model, smart, plain = converted(conv_tree(activation), tmp_path)
    assert ops(model) == ["TFLiteSmart.Conv2D"]
    options = read_options(model.schema.subgraphs[0].operators[0])
    assert (options["stride_h"], options["dilation_w"], options["padding"], options["filter_h"]) == (2, 1, "SAME", 3)
    assert options["builtin_version"] == 3 and not {"builtin_code", "filter_in"} & options.keys()  # the name and K say these
    assert [row.runs_as for row in report.packed] == ["Conv2D"] and report.packed[0].name == "filter"
    restored = Model.read(plain).schema.subgraphs[0].operators[0]
    assert vars(restored.builtinOptions) == vars(conv_tree(activation).subgraphs[0].operators[0].builtinOptions)
    assert_same(smart, plain, 72)


def test_an_activation_without_kernel_goes_through_expand(tmp_path):
    _, model, _, _ = converted(conv_tree(Activation.SIGN_BIT), tmp_path)
    assert ops(model) == ["TFLiteSmart.Expand", "CONV_2D"]


@pytest.mark.parametrize("bias", [True, False])
def test_depthwise_takes_its_multiplier_from_the_shapes(tmp_path, delegate, bias):
    tree = model_tree()
    graph = Graph(tree)
    x, y, w = graph.tensor("x", (1, 7, 7, 32)), graph.tensor("y", (1, 3, 3, 64)), graph.constant("w", weights(1, 5, 5, 64))
    inputs = [x, w] + ([graph.constant("bias", weights(64))] if bias else [])
    graph.op("DEPTHWISE_CONV_2D", inputs, [y], schema.DepthwiseConv2DOptionsT(Padding.VALID, 1, 1, 99))
    graph.finish([x], [y])
    _, model, smart, plain = converted(tree, tmp_path)
    assert read_options(model.schema.subgraphs[0].operators[0])["depth_multiplier"] == 2
    assert indices(Model.read(plain).schema.subgraphs[0].operators[0].inputs) == inputs
    if not bias:
        return  # LiteRT 2.3.0's own kernel dies of a missing bias, so there is nothing to compare with
    assert_same(smart, plain, 25)


@pytest.mark.parametrize("keep", [False, True])
def test_fully_connected(tmp_path, delegate, keep):
    tree = model_tree()
    graph = Graph(tree)
    x, y, w = graph.tensor("x", (2, 3, 64)), graph.tensor("y", (2, 3, 40) if keep else (6, 40)), graph.constant("w", weights(40, 64))
    graph.op("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT(Activation.RELU, 0, keep), 5)
    graph.finish([x], [y])
    _, model, smart, plain = converted(tree, tmp_path)
    assert ops(model) == ["TFLiteSmart.FullyConnected"] and read_options(model.schema.subgraphs[0].operators[0])["keep_num_dims"] == keep
    assert_same(smart, plain, 64)


@pytest.mark.parametrize("name", ["GATHER", "EMBEDDING_LOOKUP"])
def test_gather_of_rows(tmp_path, delegate, name):
    tree = model_tree()
    graph = Graph(tree)
    ids, y, table = graph.tensor("ids", (5,), "int32"), graph.tensor("y", (5, 4, 8)), graph.constant("table", weights(70, 4, 8))
    graph.op(name, [table, ids] if name == "GATHER" else [ids, table], [y], schema.GatherOptionsT() if name == "GATHER" else None)
    graph.finish([ids], [y])
    _, model, smart, plain = converted(tree, tmp_path)
    assert ops(model) == ["TFLiteSmart.Gather"] and ops(Model.read(plain)) == [name]
    np.testing.assert_array_equal(run(Interpreter, smart)[0], run(PlainInterpreter, plain)[0])


def fp16_tree(second_reader: bool):
    tree = model_tree()
    graph = Graph(tree)
    x, y, wide = graph.tensor("x", (1, 64)), graph.tensor("y", (1, 40)), graph.tensor("w/dequantized", (40, 64))
    w = graph.constant("w", weights(40, 64, dtype=np.float16))
    graph.op("DEQUANTIZE", [w], [wide], schema.DequantizeOptionsT())
    graph.op("FULLY_CONNECTED", [x, wide, -1], [y], schema.FullyConnectedOptionsT())
    if second_reader:
        graph.op("FLOOR", [wide], [graph.tensor("z", (40, 64))])
    graph.finish([x], [y])
    return tree


def test_float16_is_read_through_its_dequantize(tmp_path, delegate):
    report, model, smart, plain = converted(fp16_tree(False), tmp_path)
    assert ops(model) == ["TFLiteSmart.FullyConnected"] and report.packed[0].bytes_before == 2 * 40 * 64
    assert_same(smart, plain, 64)


def test_float16_with_a_reader_that_needs_it_stays(tmp_path):
    report, model, _, _ = converted(fp16_tree(True), tmp_path)
    assert not report.packed and "FLOOR reads it" in report.skipped[0].skipped and ops(model)[0] == "DEQUANTIZE"


def lstm_tree(activation_type="float32"):
    tree = model_tree()
    graph = Graph(tree)
    x, y = graph.tensor("x", (1, 4, 24), activation_type), graph.tensor("y", (1, 4, 32), activation_type)
    dtype = np.float32 if activation_type == "float32" else np.int8
    kernels = [graph.constant(f"w{n}", weights(32, 24 if n < 4 else 32, dtype=dtype)) for n in range(8)]
    biases = [graph.constant(f"b{n}", weights(32)) for n in range(4)]
    states = [graph.tensor(f"state{n}", (1, 32), isVariable=True) for n in range(2)]
    options = schema.UnidirectionalSequenceLSTMOptionsT(fusedActivationFunction=Activation.TANH)
    graph.op("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *kernels, -1, -1, -1, *biases, -1, -1, *states, -1, -1, -1, -1], [y], options)
    graph.finish([x], [y])
    return tree


def test_lstm_gets_an_expand_for_every_weight_and_depends_on_the_input(tmp_path, delegate):
    _, model, smart, plain = converted(lstm_tree(), tmp_path)
    assert ops(model) == ["TFLiteSmart.Expand"] * 8 + ["UNIDIRECTIONAL_SEQUENCE_LSTM"]
    graph = model.schema.subgraphs[0]
    assert all(indices(op.inputs)[1] == 0 for op in graph.operators[:8])  # the trigger is x, not a state
    assert ops(Model.read(plain)) == ["UNIDIRECTIONAL_SEQUENCE_LSTM"]
    assert len(Model.read(plain).schema.subgraphs[0].tensors) == len(lstm_tree().subgraphs[0].tensors)
    assert_same(smart, plain, 56 * 4)


def test_integer_lstm_keeps_its_constants(tmp_path):
    report, model, _, _ = converted(lstm_tree("int8"), tmp_path)
    assert not report.packed and ops(model) == ["UNIDIRECTIONAL_SEQUENCE_LSTM"]
    assert model.metadata("TFLITE_SMART") is None and any("nothing was packed" in note for note in report.notes)


def int8_tree(op="CONV_2D", per_channel=True, weight_zero_point=0, activations="int8"):
    tree = model_tree()
    graph = Graph(tree)
    shape, y_shape, axis = {
        "CONV_2D": ((64, 3, 3, 96), (1, 4, 4, 64), 0),
        "DEPTHWISE_CONV_2D": ((1, 9, 9, 192), (1, 4, 4, 192), 3),
        "FULLY_CONNECTED": ((160, 96), (1, 8, 8, 160), 0),
    }[op]
    scales = np.linspace(0.01, 0.03, shape[axis]) if per_channel else [0.02]
    zeros = [0] * len(scales)
    zero_points = ([3], [-5]) if activations == "int8" else ([0], [0])
    x = graph.tensor("x", (1, 8, 8, 96), activations, quantization=([0.05], zero_points[0], 0))
    y = graph.tensor("y", y_shape, activations, quantization=([0.02 if op == "DEPTHWISE_CONV_2D" else 0.2], zero_points[1], 0))
    w = graph.constant("w", weights(*shape, dtype=np.int8), (scales, [weight_zero_point] * len(scales), axis if per_channel else 0))
    b = graph.constant("b", np.arange(shape[axis], dtype=np.int32 if activations == "int8" else np.int64), (np.multiply(scales, 0.05), zeros, 0))
    graph.subgraph.tensors[w].quantization.min = np.float32([-2])
    common = (Padding.SAME, 2, 2)
    options = {
        "CONV_2D": lambda: schema.Conv2DOptionsT(*common, Activation.RELU, quantizedBiasType=schema.TensorType.INT32),
        "DEPTHWISE_CONV_2D": lambda: schema.DepthwiseConv2DOptionsT(*common, 2, Activation.RELU6),
        "FULLY_CONNECTED": lambda: schema.FullyConnectedOptionsT(keepNumDims=True, asymmetricQuantizeInputs=True),
    }[op]()
    graph.op(op, [x, w, b], [y], options, 3)
    graph.finish([x], [y])
    return tree


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_int8_runs_on_integer_kernels_and_comes_back_as_it_was(tmp_path, delegate, op, per_channel):
    report, model, smart, plain = converted(int8_tree(op, per_channel), tmp_path)
    assert ops(model) == [{"CONV_2D": "TFLiteSmart.Conv2D", "DEPTHWISE_CONV_2D": "TFLiteSmart.DepthwiseConv2D", "FULLY_CONNECTED": "TFLiteSmart.FullyConnected"}[op]]
    assert report.packed[0].value_kind == "integer" and report.packed[0].max_error == 0
    original = str(tmp_path / "plain.tflite")
    assert differences(slimmed(Model.read(plain)), slimmed(Model.read(original))) == []
    reference = run(PlainInterpreter, original, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)[0]
    assert len(np.unique(reference)) > 16
    np.testing.assert_array_equal(run(Interpreter, smart)[0], reference)


@pytest.mark.parametrize("change", [{"op": "FULLY_CONNECTED", "per_channel": False, "weight_zero_point": 4}, {"activations": "int16"}])
def test_int8_weights_that_our_kernels_do_not_compute_are_expanded(tmp_path, delegate, change):
    tree = int8_tree(**change)
    if "activations" in change:
        tree.subgraphs[0].operators[0].builtinOptions.quantizedBiasType = schema.TensorType.INT64
    report, model, smart, plain = converted(tree, tmp_path)
    assert ops(model)[0] == "TFLiteSmart.Expand" and report.packed[0].max_error == 0
    original = str(tmp_path / "plain.tflite")
    assert differences(slimmed(Model.read(plain)), slimmed(Model.read(original))) == []
    # LiteRT's own integer kernels; its XNNPACK delegate rounds the outputs of operators with constant weights in another way.
    exact = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    np.testing.assert_array_equal(run(Interpreter, smart, **exact)[0], run(PlainInterpreter, original, **exact)[0])


def dynamic_range_tree(op, per_channel=True):
    """float32 activations, int8 weights."""
    tree = int8_tree(op, per_channel)
    x, y, w, b = tree.subgraphs[0].tensors
    x.type = y.type = b.type = schema.TensorType.FLOAT32
    x.quantization = y.quantization = b.quantization = None
    tree.buffers[b.buffer].data = weights(w.shape[3 if op == "DEPTHWISE_CONV_2D" else 0]).view(np.uint8)
    return tree


@pytest.mark.parametrize("op, name", [("CONV_2D", "Conv2D"), ("DEPTHWISE_CONV_2D", "DepthwiseConv2D"), ("FULLY_CONNECTED", "FullyConnected")])
@pytest.mark.parametrize("compute", [None, "f32"])
def test_int8_weights_with_float_activations(tmp_path, delegate, op, name, compute):
    """LiteRT quantizes the activations of such operators while it runs, and so do ours, unless the recipe wants floats; depthwise ones always compute in floats, which is nearer to what
    the weights mean: 8 bits of the range leave some 40 dB."""
    recipe = {"min_weight_elements": 64, "bias_bits": 32, "global_config": {"compute": compute}}
    report, model, smart, plain = converted(dynamic_range_tree(op, per_channel=op != "FULLY_CONNECTED"), tmp_path, recipe)
    assert ops(model) == [f"TFLiteSmart.{name}"] and report.packed[0].value_kind == "integer"
    original = str(tmp_path / "plain.tflite")
    assert differences(slimmed(Model.read(plain)), slimmed(Model.read(original))) == []
    ours, theirs = run(Interpreter, smart), run(PlainInterpreter, original)
    in_int8 = compute is None and op == "CONV_2D"  # XNNPACK computes in another way what has one scale for all channels
    assert (100 if in_int8 else 34) < output_snr_db([theirs], [ours])


def two_dense(second_type="FULLY_CONNECTED"):
    """Two operators that read tensors of the same buffer, in the same graph."""
    tree = model_tree()
    graph = Graph(tree)
    x, h, y = graph.tensor("x", (1, 64)), graph.tensor("h", (1, 64)), graph.tensor("y", (1, 64))
    w = graph.constant("w", weights(64, 64))
    twin = graph.tensor("twin", (64, 64), buffer=graph.subgraph.tensors[w].buffer)
    graph.op("FULLY_CONNECTED", [x, w, -1], [h], schema.FullyConnectedOptionsT())
    if second_type == "FULLY_CONNECTED":
        graph.op("FULLY_CONNECTED", [h, twin, -1], [y], schema.FullyConnectedOptionsT())
    elif second_type == "BATCH_MATMUL":
        graph.op("BATCH_MATMUL", [h, twin], [y], schema.BatchMatMulOptionsT())
    else:
        graph.op(second_type, [twin], [graph.tensor("z", (64, 64))])
        graph.op("RELU", [h], [y])
    graph.finish([x], [y])
    return tree


@pytest.mark.parametrize("second", ["FULLY_CONNECTED", "BATCH_MATMUL"])
def test_shared_bytes_are_packed_once(tmp_path, delegate, second):
    report, model, smart, plain = converted(two_dense(second), tmp_path)
    assert len(report.packed) == 1
    graph = model.schema.subgraphs[0]
    assert len({tensor.buffer for tensor in graph.tensors if tensor_name(tensor) in ("w", "twin")}) == 1
    assert sum(len(buffer.data) > 500 for buffer in model.schema.buffers if buffer.data is not None) == 1
    assert ops(model)[0] == "TFLiteSmart.FullyConnected" and len(ops(model)) == (2 if second == "FULLY_CONNECTED" else 3)
    assert_same(smart, plain, 128)


def test_shared_bytes_that_one_reader_needs_plain_stay(tmp_path):
    report, model, _, _ = converted(two_dense("FLOOR"), tmp_path)
    assert not report.packed and "FLOOR reads it as input 0" in report.skipped[0].skipped


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tree, graph: graph.finish([0], [2, 3]), "output of the model"),
        (lambda tree, graph: setattr(graph.subgraph.tensors[3], "isVariable", True), "variable"),
        (lambda tree, graph: setattr(graph.subgraph.tensors[3], "sparsity", schema.SparsityParametersT()), "sparse"),
        (lambda tree, graph: tree.metadata.append(schema.MetadataT(b"m", 1)), "metadata"),
        (lambda tree, graph: setattr(graph.subgraph.operators[0].builtinOptions, "weightsFormat", 1), "shuffled"),
    ],
)
def test_what_must_not_be_touched_is_left_alone(tmp_path, change, reason):
    tree = two_dense()
    graph = Graph.__new__(Graph)
    graph.tree, graph.subgraph = tree, tree.subgraphs[0]
    change(tree, graph)
    report, model, _, _ = converted(tree, tmp_path)
    assert not report.packed and reason in report.skipped[0].skipped
    np.testing.assert_array_equal(np.frombuffer(model.schema.buffers[1].data, np.float32).reshape(64, 64), weights(64, 64))


def test_hybrid_batch_matmul_keeps_its_constants(tmp_path):
    tree = model_tree()
    graph = Graph(tree)
    x, y = graph.tensor("x", (2, 5, 64)), graph.tensor("y", (2, 5, 48))
    w = graph.constant("w", weights(2, 64, 48, dtype=np.int8), ([0.01], [0], 0))
    graph.op("BATCH_MATMUL", [x, w], [y], schema.BatchMatMulOptionsT())
    graph.finish([x], [y])
    report, _, _, _ = converted(tree, tmp_path)
    assert "XNNPACK" in report.skipped[0].skipped


def while_tree():
    """x -> WHILE (x + w x until the counter reaches 3), the weights in the body."""
    tree = model_tree()
    main, condition, body = Graph(tree), Graph(tree, "condition"), Graph(tree, "body")
    n, x = main.tensor("n", (1,), "int32"), main.tensor("x", (1, 64))
    n_out, y = main.tensor("n_out", (1,), "int32"), main.tensor("y", (1, 64))
    main.op("WHILE", [n, x], [n_out, y], schema.WhileOptionsT(1, 2))
    main.finish([n, x], [n_out, y])
    i, v, less = condition.tensor("i", (1,), "int32"), condition.tensor("v", (1, 64)), condition.tensor("less", (1,), "bool")
    condition.op("LESS", [i, condition.constant("limit", np.array([9], np.int32))], [less], schema.LessOptionsT())
    condition.finish([i, v], [less])
    j, u, j_out, h, out = body.tensor("j", (1,), "int32"), body.tensor("u", (1, 64)), body.tensor("j_out", (1,), "int32"), body.tensor("h", (1, 64)), body.tensor("out", (1, 64))
    body.op("ADD", [j, body.constant("one", np.array([1], np.int32))], [j_out], schema.AddOptionsT())
    body.op("FULLY_CONNECTED", [u, body.constant("w", weights(64, 64, scale=0.02)), -1], [h], schema.FullyConnectedOptionsT())
    body.op("ADD", [u, h], [out], schema.AddOptionsT())
    body.finish([j, u], [j_out, out])
    tree.signatureDefs = [schema.SignatureDefT([schema.TensorMapT(b"n", 0), schema.TensorMapT(b"x", 1)], [schema.TensorMapT(b"y", 3)], b"serve", 0)]
    return tree


def test_weights_inside_a_loop(tmp_path, delegate):
    _, model, smart, plain = converted(while_tree(), tmp_path)
    assert "TFLiteSmart.FullyConnected" in ops(model) and len(model.schema.subgraphs) == 3 and len(model.schema.signatureDefs) == 1
    assert_same(smart, plain, 64 * 9)


def test_axes_of_the_table():
    model = Model(two_dense("BATCH_MATMUL"))
    op = model.schema.subgraphs[0].operators[1]
    assert weight_axis(model, op, 1, 3) == 2 and weight_axis(model, op, 0, 3) == 1
    op.builtinOptions.adjX = op.builtinOptions.adjY = True
    assert weight_axis(model, op, 1, 3) == 1 and weight_axis(model, op, 0, 3) == 2
    assert weight_axis(model, op, 2, 3) is None
    assert all(hasattr(schema.BuiltinOperator, name) for name in WEIGHT_INPUTS)
