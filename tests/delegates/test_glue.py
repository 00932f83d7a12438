"""Builtin operators between our own: each against LiteRT's, and any of them in a graph whose tensors live for a while in the segment's workspace."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tests.delegates import models
from tests.delegates.running import invoke, make_interpreter
from tests.delegates.test_neighbours import add_node, conv, conv_node, is_one_node

CHANNELS = 32
SHAPE = (2, 6, 7, CHANNELS)
LARGE = (1, 40, 41, CHANNELS)  # worth more than one thread

LARGE_PLAIN = (1, 36, 40, CHANNELS)  # 180 KB


def options(kind, **values):
    """The schema's options of an operator, `padding` and `fusedActivationFunction` by name."""
    result = getattr(schema, f"{kind}OptionsT")()
    for name, value in values.items():
        enum = {"padding": schema.Padding, "fusedActivationFunction": schema.ActivationFunctionType}.get(name)
        setattr(result, name, getattr(enum, value) if enum else value)
    return result


def pool(activation="NONE", padding="SAME", stride=2, window=3):
    return options("Pool2D", padding=padding, strideH=stride, strideW=stride, filterHeight=window, filterWidth=window + 1, fusedActivationFunction=activation)


def const(*values, dtype=np.int32):
    return np.array(values, dtype)


def numbers(*shape):
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


# Operator, what it reads (x is what a convolution of ours writes), shape of its output for SHAPE, options.
X = "x"
CASES = {
    "add a constant of all channels": ("ADD", [X, numbers(CHANNELS)], SHAPE, options("Add", fusedActivationFunction="RELU")),
    "add a number": ("ADD", [X, numbers()], SHAPE, options("Add")),
    "add an image for all": ("ADD", [numbers(1, 6, 7, CHANNELS), X], SHAPE, options("Add", fusedActivationFunction="RELU_N1_TO_1")),
    "multiply pixels": ("MUL", [X, numbers(1, 6, 7, 1)], SHAPE, options("Mul", fusedActivationFunction="RELU6")),
    "multiply images": ("MUL", [numbers(2, 1, 1, CHANNELS), X], SHAPE, options("Mul")),
    "multiply crosswise": ("MUL", [X, numbers(2, 1, 7, 1)], SHAPE, options("Mul")),
    "square": ("MUL", [X, X], SHAPE, options("Mul")),
    "multiply up": ("MUL", [X, numbers(3, 1, 6, 7, CHANNELS)], (3, *SHAPE), options("Mul")),
    "subtract a constant": ("SUB", [X, numbers(CHANNELS)], SHAPE, options("Sub")),
    "subtract from a number": ("SUB", [numbers(), X], SHAPE, options("Sub", fusedActivationFunction="RELU")),
    "subtract from pixels": ("SUB", [numbers(6, 7, 1), X], SHAPE, options("Sub")),
    "squared difference": ("SQUARED_DIFFERENCE", [X, numbers(6, 7, 1)], SHAPE, options("SquaredDifference")),
    "gelu": ("GELU", [X], SHAPE, options("Gelu")),
    "negative": ("NEG", [X], SHAPE, None),
    "1 / square root": ("RSQRT", [X], SHAPE, None),  # NaN where x is below 0
    "relu": ("RELU", [X], SHAPE, None),
    "relu n1 to 1": ("RELU_N1_TO_1", [X], SHAPE, None),
    "relu6": ("RELU6", [X], SHAPE, None),
    "logistic": ("LOGISTIC", [X], SHAPE, None),
    "softmax": ("SOFTMAX", [X], SHAPE, options("Softmax", beta=1.0)),
    "softmax with beta": ("SOFTMAX", [X], SHAPE, options("Softmax", beta=0.3)),
    "mean of images": ("MEAN", [X, const(1, 2)], (2, CHANNELS), options("Reducer")),
    "mean of images that keeps axes": ("MEAN", [X, const(-2, 1)], (2, 1, 1, CHANNELS), options("Reducer", keepDims=True)),
    "mean of channels": ("MEAN", [X, const(-1)], (2, 6, 7, 1), options("Reducer", keepDims=True)),
    "mean of everything": ("MEAN", [X, const(0, 1, 2, 3)], (), options("Reducer")),
    "mean of lines": ("MEAN", [X, const(2)], (2, 6, CHANNELS), options("Reducer")),
    "average pool": ("AVERAGE_POOL_2D", [X], (2, 3, 4, CHANNELS), pool()),
    "average pool without padding": ("AVERAGE_POOL_2D", [X], (2, 4, 4, CHANNELS), pool("RELU", "VALID", 1)),
    "max pool": ("MAX_POOL_2D", [X], (2, 3, 4, CHANNELS), pool("RELU6")),
    "max pool of one pixel": ("MAX_POOL_2D", [X], (2, 3, 3, CHANNELS), pool(padding="VALID", window=1)),
    "concatenation of channels": ("CONCATENATION", [X, numbers(2, 6, 7, 5), X], (2, 6, 7, 2 * CHANNELS + 5), options("Concatenation", axis=-1)),
    "concatenation of lines": ("CONCATENATION", [numbers(2, 3, 7, CHANNELS), X], (2, 9, 7, CHANNELS), options("Concatenation", axis=1)),
    "reshape": ("RESHAPE", [X, const(2, -1, 14)], (2, 96, 14), options("Reshape")),
    "transpose lines and columns": ("TRANSPOSE", [X, const(0, 2, 1, 3)], (2, 7, 6, CHANNELS), options("Transpose")),
    "transpose the channels to the front": ("TRANSPOSE", [X, const(-1, 0, 1, 2)], (CHANNELS, 2, 6, 7), options("Transpose")),
    "transpose everything": ("TRANSPOSE", [X, const(3, 2, 1, 0)], (CHANNELS, 7, 6, 2), options("Transpose")),
    "product with matrices": ("BATCH_MATMUL", [X, numbers(2, 6, CHANNELS, 37)], (2, 6, 7, 37), options("BatchMatMul")),
    "product of matrices with x": ("BATCH_MATMUL", [numbers(2, 6, 13, 7), X], (2, 6, 13, CHANNELS), options("BatchMatMul")),
    "product with one matrix": ("BATCH_MATMUL", [X, numbers(CHANNELS, 64)], (2, 6, 7, 64), options("BatchMatMul")),
    "product with a matrix for each line": ("BATCH_MATMUL", [X, numbers(6, 5, CHANNELS)], (2, 6, 7, 5), options("BatchMatMul", adjY=True)),
    "product with itself": ("BATCH_MATMUL", [X, X], (2, 6, 7, 7), options("BatchMatMul", adjY=True)),
    "pad": ("PAD", [X, const([1, 0], [2, 1], [0, 3], [4, 5])], (3, 9, 10, CHANNELS + 9), None),
}  # fmt: skip


def glue_model(case, shape, weight=None):
    """x -> our convolution, 1x1 -> the operator; without a weight the operator alone."""
    name, inputs, y_shape, node_options = case
    model = models.ModelBuilder()
    x = model.tensor("x", shape, dynamic=True)
    between = x
    if weight is not None:
        between = model.tensor("between", shape, dynamic=True)
        conv_node(model, weight, x, between)
    y = model.tensor("y", y_shape, dynamic=True)
    model.builtin(name, [between if value is X else model.constant(f"c{i}", value) for i, value in enumerate(inputs)], [y], node_options)
    return model.build([x], [y])


def by_litert(content, x):
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    return invoke(interpreter, x)


@pytest.mark.parametrize("name", CASES)
def test_operator(rng, isa, name):
    """Sums of at most 42 numbers or products below 10, means of more, exponentials within 2 ulp, a normal distribution within 1.5e-7: 1e-5 of the largest."""
    weight = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0)
    x = rng.normal(size=SHAPE).astype(np.float32)
    expected = by_litert(glue_model(CASES[name], SHAPE), conv(weight, x, 1))
    interpreter = make_interpreter(glue_model(CASES[name], SHAPE, weight), num_threads=2)
    assert is_one_node(interpreter)
    got = invoke(interpreter, x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(invoke(interpreter, x), got)


def test_a_long_product(rng, isa):
    """Sums of 700 products are taken in pieces, over several panels, with a last block of rows that is none of the kernel's heights."""
    shape, a = (2, 3, 700, CHANNELS), rng.normal(size=(3, 27, 700)).astype(np.float32)
    case = ("BATCH_MATMUL", [a, X], (2, 3, 27, CHANNELS), options("BatchMatMul"))
    weight, x = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0), rng.normal(size=shape).astype(np.float32)
    b = conv(weight, x, 1)
    bound = 700 * 2.0**-24 * (np.abs(a) @ np.abs(b)).max()  # 700 roundings by half a unit in the last place of a partial sum, at most
    np.testing.assert_allclose(invoke(make_interpreter(glue_model(case, shape, weight), num_threads=2), x), a.astype(np.float64) @ b, rtol=0, atol=bound)


@pytest.mark.parametrize("name", ["add a constant of all channels", "multiply pixels", "subtract from a number", "logistic", "softmax", "mean of images",
                                  "average pool", "concatenation of channels", "pad", "mean of channels",
                                  "transpose lines and columns", "product with one matrix"])  # fmt: skip
def test_operator_on_many_threads(rng, name):
    weight = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0)
    kind, inputs, _, node_options = CASES[name]
    inputs = [numbers(1, *LARGE[1:3], value.shape[-1]) if isinstance(value, np.ndarray) and value.ndim > 2 else value for value in inputs]
    x = rng.normal(size=LARGE).astype(np.float32)
    alone = glue_model((kind, inputs, (1,), node_options), LARGE)
    expected = by_litert(alone, conv(weight, x, 1))
    model = glue_model((kind, inputs, expected.shape, node_options), LARGE, weight)
    got = invoke(make_interpreter(model, num_threads=3), x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got, invoke(make_interpreter(model, num_threads=1), x))


@pytest.mark.parametrize("name, shape", [("add a number", (3, 5, 2, CHANNELS)), ("mean of images", (1, 9, 9, CHANNELS)), ("max pool", (1, 4, 11, CHANNELS)),
                                         ("pad", (1, 1, 1, CHANNELS)), ("softmax", (5, 1, 2, CHANNELS)), ("reshape", (2, 7, 2, CHANNELS))])  # fmt: skip
def test_operator_after_a_resize(rng, name, shape):
    weight = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0)
    x = rng.normal(size=shape).astype(np.float32)
    expected = by_litert(glue_model(CASES[name], SHAPE), conv(weight, x, 1))
    got = invoke(make_interpreter(glue_model(CASES[name], SHAPE, weight), resize=shape), x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, inputs, y_shape, node_options", [
    ("ADD", [X, numbers(CHANNELS)], SHAPE, options("Add", fusedActivationFunction="TANH")),
    ("MEAN", [X, const(3)], SHAPE[:3], options("Reducer")),
    ("MEAN", [X, const(0, 2)], (6, CHANNELS), options("Reducer")),
    ("TANH", [X], SHAPE, None),
])  # fmt: skip
def test_operators_that_stay_with_the_runtime(rng, name, inputs, y_shape, node_options):
    weight = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0)
    x = rng.normal(size=SHAPE).astype(np.float32)
    content = glue_model((name, inputs, y_shape, node_options), SHAPE, weight)
    interpreter = make_interpreter(content)
    assert [op["op_name"] for op in interpreter._get_ops_details()][:3].count(name) == 1
    expected = by_litert(glue_model((name, inputs, y_shape, node_options), SHAPE), conv(weight, x, 1))
    np.testing.assert_allclose(invoke(interpreter, x), expected, rtol=1e-5, atol=1e-5)


def test_nodes_beside_none_of_ours_stay_with_the_runtime(rng):
    weight = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0)
    model = models.ModelBuilder()
    x, a, b, y = (model.tensor(name, SHAPE) for name in "xaby")
    model.builtin("RELU", [x], [a])
    model.builtin("TANH", [a], [b])
    conv_node(model, weight, b, y)
    interpreter = make_interpreter(model.build([x], [y]))
    assert "RELU" in [op["op_name"] for op in interpreter._get_ops_details()][:2]
    values = rng.normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(invoke(interpreter, values), conv(weight, np.tanh(np.maximum(values, 0)), 1), rtol=1e-4, atol=1e-4)


def plain_model(kind, filters, bias, shape, node_options, weight=None):
    """x -> our convolution, 1x1 -> a builtin one with its weights as they are; without `weight` the latter alone."""
    model = models.ModelBuilder()
    x = model.tensor("x", shape)
    between = x
    if weight is not None:
        between = model.tensor("between", shape)
        conv_node(model, weight, x, between)
    stride, size = node_options.strideW, node_options.padding == schema.Padding.SAME
    y_shape = [-(-n // stride) if size else (n - k) // stride + 1 for n, k in zip(shape[1:3], filters.shape[1:3])]
    y = model.tensor("y", (shape[0], *y_shape, filters.shape[3 if kind == "DEPTHWISE_CONV_2D" else 0]))
    inputs = [between, model.constant("filters", filters), *([model.constant("bias", bias)] if bias is not None else [])]
    model.builtin(kind, inputs, [y], node_options)
    return model.build([x], [y])


@pytest.mark.parametrize("kind, filters, shape, node_options", [
    ("CONV_2D", (40, 3, 3, CHANNELS), LARGE_PLAIN, options("Conv2D", padding="SAME", strideW=1, strideH=1, fusedActivationFunction="RELU6")),
    ("CONV_2D", (24, 1, 1, CHANNELS), (2, 1, 1, CHANNELS), options("Conv2D", padding="VALID", strideW=1, strideH=1)),
    ("DEPTHWISE_CONV_2D", (1, 3, 5, CHANNELS), LARGE_PLAIN, options("DepthwiseConv2D", padding="SAME", strideW=1, strideH=1, depthMultiplier=1)),
    ("DEPTHWISE_CONV_2D", (1, 3, 3, 3 * CHANNELS), LARGE_PLAIN,
     options("DepthwiseConv2D", padding="SAME", strideW=1, strideH=1, depthMultiplier=3, fusedActivationFunction="RELU")),
])  # fmt: skip
@pytest.mark.parametrize("has_bias", [False, True])
def test_plain_convolution(rng, isa, kind, filters, shape, node_options, has_bias):
    """Sums of 288 products of numbers around 1 and .1: 1e-5 of the largest."""
    node_options.dilationHFactor = node_options.dilationWFactor = 1
    weight = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0)
    values = (rng.normal(size=filters) * 0.1).astype(np.float32)
    bias = rng.normal(size=filters[3 if kind == "DEPTHWISE_CONV_2D" else 0]).astype(np.float32) * has_bias
    x = rng.normal(size=shape).astype(np.float32)
    expected = by_litert(plain_model(kind, values, bias, shape, node_options), conv(weight, x, 1))
    interpreter = make_interpreter(plain_model(kind, values, bias if has_bias else None, shape, node_options, weight), num_threads=2)
    assert is_one_node(interpreter)
    np.testing.assert_allclose(invoke(interpreter, x), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


# --- memory


def random_graph(rng, num_nodes):
    """A model of sums, products, limits and convolutions of random tensors so far, and the same in numpy. Some tensors are outputs, some nobody reads."""
    weights = [models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0) for _ in range(2)]
    model = models.ModelBuilder()
    tensors, steps = [model.tensor("x", SHAPE)], []
    for i in range(num_nodes):
        kind = rng.choice(["ADD", "MUL", "RELU6", "RESHAPE", "first", "second"]) if i else "first"
        inputs = [int(j) for j in rng.integers(max(0, len(tensors) - 6), len(tensors), 2)]
        y = model.tensor(f"t{i}", SHAPE)
        if kind == "ADD":
            add_node(model, [tensors[j] for j in inputs], y, "RELU6")
        elif kind == "MUL":
            model.builtin("MUL", [tensors[j] for j in inputs], [y], options("Mul", fusedActivationFunction="RELU_N1_TO_1"))
        elif kind == "RELU6":
            model.builtin("RELU6", [tensors[inputs[0]]], [y])
        elif kind == "RESHAPE":
            model.builtin("RESHAPE", [tensors[inputs[0]], model.constant(f"shape{i}", np.array(SHAPE, np.int32))], [y], options("Reshape"))
        else:
            conv_node(model, weights[kind == "second"], tensors[inputs[0]], y)
        tensors.append(y)
        steps.append((kind, inputs))
    shown = sorted({len(tensors) - 1, *(int(i) for i in rng.integers(1, len(tensors), 3))})
    return model.build(tensors[:1], [tensors[i] for i in shown]), steps, weights, shown


def in_numpy(steps, weights, x):
    values = [x]
    for kind, (a, b) in steps:
        match kind:
            case "ADD": y = np.clip(values[a] + values[b], 0, 6)
            case "MUL": y = np.clip(values[a] * values[b], -1, 1)
            case "RELU6": y = np.clip(values[a], 0, 6)
            case "RESHAPE": y = values[a]
            case _: y = conv(weights[kind == "second"], values[a], 1)
        values.append(y)
    return values


@pytest.mark.parametrize("seed", range(6))
def test_tensors_live_as_long_as_somebody_reads_them(seed):
    rng = np.random.default_rng(seed)
    content, steps, weights, shown = random_graph(rng, 30)
    interpreter = make_interpreter(content)
    assert is_one_node(interpreter)
    for _ in range(2):
        x = rng.normal(size=SHAPE).astype(np.float32)
        expected = in_numpy(steps, weights, x)
        invoke(interpreter, x)
        for detail, i in zip(interpreter.get_output_details(), shown):
            np.testing.assert_array_equal(interpreter.get_tensor(detail["index"]), expected[i])


def test_a_long_chain_needs_the_memory_of_two_tensors(rng):
    weight = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0)
    model = models.ModelBuilder()
    tensors = [model.tensor(f"t{i}", SHAPE) for i in range(25)]
    for x, a, b in zip(tensors[:-2:2], tensors[1::2], tensors[2::2]):
        conv_node(model, weight, x, a)
        model.builtin("RELU", [a], [b])  # in place
    interpreter = make_interpreter(model.build(tensors[:1], tensors[-1:]))
    (workspace,) = [tensor for tensor in interpreter.get_tensor_details() if tensor["name"] == "TFLiteSmart workspace"]
    assert np.prod(workspace["shape"]) == 2 * 4 * np.prod(SHAPE)
    invoke(interpreter, rng.normal(size=SHAPE).astype(np.float32))


def test_a_reshaped_tensor_is_the_tensor(rng):
    """Also where somebody reads it in its old shape afterwards: no second one in memory."""
    weight = models.random_weight(rng, (CHANNELS, 1, 1, CHANNELS), 0)
    model = models.ModelBuilder()
    x, a, reshaped, b, y, shown = (model.tensor(name, SHAPE) for name in ("x", "a", "reshaped", "b", "y", "shown"))
    conv_node(model, weight, x, a)
    model.builtin("RESHAPE", [a, model.constant("shape", np.array(SHAPE, np.int32))], [reshaped], options("Reshape"))
    conv_node(model, weight, reshaped, b)
    model.builtin("MUL", [b, a], [y], options("Mul"))
    conv_node(model, weight, y, shown)
    interpreter = make_interpreter(model.build([x], [shown]))
    (workspace,) = [tensor for tensor in interpreter.get_tensor_details() if tensor["name"] == "TFLiteSmart workspace"]
    assert np.prod(workspace["shape"]) == 2 * 4 * np.prod(SHAPE)
    values = rng.normal(size=SHAPE).astype(np.float32)
    invoke(interpreter, values)
    once = conv(weight, values, 1)
    np.testing.assert_array_equal(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), conv(weight, conv(weight, once, 1) * once, 1))
