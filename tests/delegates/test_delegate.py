"""The external delegate: what it claims, how it behaves in LiteRT's and TensorFlow's interpreters, and how it refuses."""

import dataclasses
import os
import threading
import time

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

from tests.delegates import conv_reference as reference
from tests.delegates import models
from tests.delegates.running import invoke, make_interpreter, run
from tflite_smart.converter.channel_codes import Bias
from tflite_smart.delegates import native

X_SHAPE = (1, 6, 6, 8)


def mixed_model(rng):
    """Smart convolution, builtin convolution, RELU, and a large constant through Expand: the model, its input, its output."""
    smart = models.random_weight(rng, (40, 3, 3, 8), 0)
    table = models.random_weight(rng, (16, 1, 1, 40), 0)
    plain = rng.normal(size=(40, 1, 1, 40)).astype(np.float32)
    zeros = np.zeros(40, np.float32)
    model = models.ModelBuilder()
    x, y = model.tensor("x", X_SHAPE), model.tensor("y", (1, 6, 6, 16))
    a, b, c = (model.tensor(name, (1, 6, 6, 40)) for name in "abc")
    expanded = model.tensor("expanded", (16, 1, 1, 40))
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    model.custom("TFLiteSmart.Conv2D", [x, model.packed("smart", smart), -1], [a], {**models.CONV_OPTIONS, "filter_h": 3, "filter_w": 3, "filter_in": 8})
    model.builtin("CONV_2D", [a, model.constant("plain", plain), model.constant("zeros", zeros)], [b], options)
    model.builtin("RELU", [b], [c])
    model.custom("TFLiteSmart.Expand", [model.packed("table", table), c], [expanded], {"axis": 0})
    model.builtin("CONV_2D", [c, expanded, model.constant("zeros16", zeros[:16])], [y], options)

    def expected(values):
        hidden = reference.conv2d(reference.conv2d(values, smart.expand().reshape(40, 3, 3, 8)), plain)
        return reference.conv2d(np.maximum(hidden, 0), table.expand().reshape(16, 1, 1, 40))

    return model.build([x], [y]), expected


def assert_near(got, expected):
    """Three layers deep there is no simple bound: relative to the largest value, 1e-4 is a thousand roundings."""
    assert got.shape == expected.shape
    assert np.max(np.abs(got - expected)) <= 1e-4 * np.max(np.abs(expected))


def conv_content(rng, **options):
    return models.conv_model(X_SHAPE, models.random_weight(rng, (40, 3, 3, 8), 0), (3, 3, 8), **options)


def refused(content, capfd, **options) -> str:
    """What the interpreter says of a model that must not load. The reasons go to the error stream, the exception may only say that there are some."""
    with pytest.raises((RuntimeError, ValueError)) as error:
        make_interpreter(content, **options)
    return str(error.value) + capfd.readouterr().err


# --- claiming


def test_claims_its_nodes_and_leaves_the_rest_to_xnnpack(rng):
    content, expected = mixed_model(rng)
    delegate = load_delegate(native.library_path(), {"num_threads": 1})
    without = Interpreter(
        model_content=content, experimental_delegates=[delegate], experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    without.allocate_tensors()
    claimed = [op["op_name"] for op in without._get_ops_details()].count("DELEGATE")
    assert claimed == 2  # Conv2D and Expand, each on its own

    interpreter = make_interpreter(content)
    by_xnnpack = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"][claimed:]
    assert by_xnnpack
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    inside = {names[i] for op in by_xnnpack for i in op["inputs"] if i in names}
    assert {"a", "plain"} <= inside  # the builtin convolution

    x = rng.normal(size=X_SHAPE).astype(np.float32)
    assert_near(invoke(without, x), expected(x))
    assert_near(invoke(interpreter, x), expected(x))


def test_a_model_without_our_ops_is_left_alone(rng):
    model = models.ModelBuilder()
    x, y = model.tensor("x", (1, 8)), model.tensor("y", (1, 8))
    model.builtin("RELU", [x], [y])
    values = rng.normal(size=(1, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(model.build([x], [y]), values), np.maximum(values, 0))


def test_tensorflow_interpreter(rng):
    tf = pytest.importorskip("tensorflow")
    content, expected = mixed_model(rng)
    delegate = tf.lite.experimental.load_delegate(native.library_path(), {"num_threads": 2})
    interpreter = tf.lite.Interpreter(model_content=content, experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    x = rng.normal(size=X_SHAPE).astype(np.float32)
    assert_near(invoke(interpreter, x), expected(x))
    assert [op["op_name"] for op in interpreter._get_ops_details()].count("DELEGATE") > 2


# --- shapes that change


def test_resize_and_invoke_again(rng):
    weight = models.random_weight(rng, (40, 3, 3, 8), 0)
    filters = weight.expand().reshape(40, 3, 3, 8)
    interpreter = make_interpreter(models.conv_model(X_SHAPE, weight, (3, 3, 8), dynamic=True, stride_h=2))
    for shape in [X_SHAPE, (3, 6, 6, 8), (1, 9, 4, 8), (3, 6, 6, 8), (0, 6, 6, 8), (2, 1, 1, 8)]:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
        interpreter.allocate_tensors()
        x = rng.normal(size=shape).astype(np.float32)
        expected = reference.conv2d(x, filters, stride=(2, 1))
        got = invoke(interpreter, x)
        assert got.shape == expected.shape
        assert x.size == 0 or np.max(np.abs(got - expected)) <= 1e-5 * np.max(np.abs(expected))


def test_input_whose_shape_is_known_only_at_run_time(rng):
    """RESHAPE to a shape that another op computes: everything behind it is dynamic."""
    weight = models.random_weight(rng, (33, 20), 0)
    model = models.ModelBuilder()
    x, shape = model.tensor("x", (4, 5)), model.tensor("shape", (2,), "int32")
    computed, flat, y = model.tensor("computed", (2,), "int32"), model.tensor("flat", (1, 20)), model.tensor("y", (1, 33))
    model.builtin("MAXIMUM", [shape, shape], [computed], schema.MaximumMinimumOptionsT())
    model.builtin("RESHAPE", [x, computed], [flat])
    model.custom("TFLiteSmart.FullyConnected", [flat, model.packed("w", weight), -1], [y], {"activation": "NONE", "keep_num_dims": 0})
    interpreter = make_interpreter(model.build([x, shape], [y]))
    x_index, shape_index = (detail["index"] for detail in interpreter.get_input_details())
    for rows in (1, 3, 1, 2):
        values = rng.normal(size=(4 * rows, 5)).astype(np.float32)
        interpreter.resize_tensor_input(x_index, values.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(shape_index, np.array([rows, 20], np.int32))
        got = invoke(interpreter, values)
        assert_near(got, values.reshape(rows, 20).astype(np.float64) @ weight.expand().T)


# --- threads


def thread_count() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("num_threads, more", [(1, 0), (3, 2)])
def test_threads_are_started_only_when_asked_for(rng, num_threads, more):
    weight = models.random_weight(rng, (256, 3, 3, 8), 0)
    content = models.conv_model((1, 24, 24, 8), weight, (3, 3, 8))
    x = rng.normal(size=(1, 24, 24, 8)).astype(np.float32)
    before = thread_count()
    interpreter = make_interpreter(content, num_threads=num_threads)
    invoke(interpreter, x)
    assert thread_count() - before == more
    del interpreter
    deadline = time.monotonic() + 5
    while thread_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the system lists a thread that was joined for a moment more
    assert thread_count() == before


def test_num_threads_of_the_interpreter_is_the_default(rng):
    weight = models.random_weight(rng, (256, 3, 3, 8), 0)
    content = models.conv_model((1, 24, 24, 8), weight, (3, 3, 8))
    x = rng.normal(size=(1, 24, 24, 8)).astype(np.float32)
    before = thread_count()
    interpreter = Interpreter(
        model_content=content, num_threads=4, experimental_delegates=[load_delegate(native.library_path())],
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    interpreter.allocate_tensors()
    invoke(interpreter, x)
    assert thread_count() - before == 3


@pytest.mark.parametrize("shared", [False, True])
def test_interpreters_at_once(rng, shared):
    """Several interpreters in as many threads, with a delegate each or one for all."""
    content, _ = mixed_model(rng)
    x = rng.normal(size=X_SHAPE).astype(np.float32)
    expected = run(content, x, num_threads=1)
    delegates = [load_delegate(native.library_path(), {"num_threads": 2}) for _ in range(1 if shared else 3)]
    interpreters = [Interpreter(model_content=content, experimental_delegates=[delegates[i % len(delegates)]]) for i in range(3)]
    failures = []

    def work(interpreter):
        interpreter.allocate_tensors()
        for _ in range(50):
            if not np.array_equal(invoke(interpreter, x), expected):
                failures.append("another result")

    threads = [threading.Thread(target=work, args=(interpreter,)) for interpreter in interpreters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- refusals


@pytest.mark.parametrize("options, received", [({"threads": 2}, "threads=2"), ({"num_threads": "two"}, "num_threads=two"), ({"num_threads": 0}, "num_threads=0"), ({"num_threads": 257}, "num_threads=257"), ({"isa": "mmx"}, "isa=mmx"), ({"cache_bytes": -1}, "cache_bytes=-1"), ({"cache_bytes": 2**30 + 1}, "cache_bytes=1073741825")])
def test_unknown_option(options, received):
    with pytest.raises(ValueError, match="options must be num_threads .*isa .*Received: " + received):
        load_delegate(native.library_path(), options)


def test_isa_option(rng):
    try:
        for name in native.isa_names():
            load_delegate(native.library_path(), {"isa": name})
            assert native.active_isa() == name
    finally:
        native.force_isa(None)


@pytest.mark.parametrize("name", ["TFLiteSmart.Conv9D", "TFLiteSmart."])
def test_unknown_op(rng, capfd, name):
    model = models.ModelBuilder()
    x, y = model.tensor("x", X_SHAPE), model.tensor("y", X_SHAPE)
    model.custom(name, [x, model.packed("w", models.random_weight(rng, (8, 4), 0))], [y], {})
    message = refused(model.build([x], [y]), capfd)
    assert "op must be one of Conv2D, " in message and f"Received: {name}." in message


@pytest.mark.parametrize("has_ours", [True, False])
def test_a_tensor_that_two_nodes_write(rng, capfd, has_ours):
    """The runtime makes it as large as one of them says, and the other writes beyond. Without an op of ours the graph is the runtime's own business."""
    model = models.ModelBuilder()
    x, y = model.tensor("x", (1, 4)), model.tensor("y", (1, 4))
    if has_ours:
        model.custom("TFLiteSmart.FullyConnected", [x, model.packed("w", models.random_weight(rng, (4, 4), 0)), -1], [y], {"activation": "NONE", "keep_num_dims": 0})
    else:
        model.builtin("ABS", [x], [y])
    model.builtin("ABS", [x], [y])
    content = model.build([x], [y])
    if has_ours:
        assert "must be written by one node. Received: two." in refused(content, capfd)
    else:
        make_interpreter(content)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"filter_h": 2}, "packed weight K must be filter_h * filter_w * filter_in = 2 * 3 * 8. Received: K=72"),
        ({"activation": "TANH"}, "Received: activation=TANH"),
        ({"activation": 1}, "option activation must be a string"),
        ({"padding": "FULL"}, "option padding must be one of VALID, SAME. Received: padding=FULL"),
        ({"stride_h": 0}, "Received: stride_h=0"),
        ({"stride_h": -1}, "Received: stride_h=-1"),
        ({"stride_h": 1 << 40}, "Received: stride_h=1099511627776"),
        ({"dilation_w": "1"}, "option dilation_w must be an integer. Received: another type"),
        ({"dilation_w": 2.5}, "option dilation_w must be an integer. Received: another type"),
    ],
)
def test_wrong_options(rng, capfd, options, message):
    report = refused(conv_content(rng, **options), capfd)
    assert message in report
    assert "TFLiteSmart.Conv2D 'filter'" in report  # which op, by the name that the user knows


@pytest.mark.parametrize("size", [1, 3])
def test_missing_options_mean_the_usual(rng, size):
    x, weight = rng.normal(size=X_SHAPE).astype(np.float32), models.random_weight(rng, (40, size, size, 8), 0)
    options = {**models.CONV_OPTIONS, "filter_h": size, "filter_w": size, "filter_in": 8}
    needed = {"filter_h", "filter_w"} if size > 1 else set()
    results = []
    for left_out in ((), options.keys() - needed):
        model = models.ModelBuilder()
        tensors = model.tensor("x", X_SHAPE), model.tensor("y", (1, 6, 6, 40))
        model.custom("TFLiteSmart.Conv2D", [tensors[0], model.packed("filter", weight), -1], [tensors[1]], {key: options[key] for key in options if key not in left_out})
        results.append(run(model.build([tensors[0]], [tensors[1]]), x))
    np.testing.assert_array_equal(*results)


def raw_options_model(rng, options):
    model = models.ModelBuilder()
    x, y = model.tensor("x", X_SHAPE), model.tensor("y", (1, 6, 6, 40))
    model.custom("TFLiteSmart.Conv2D", [x, model.packed("filter", models.random_weight(rng, (40, 3, 3, 8), 0)), -1], [y], options)
    return model.build([x], [y])


def test_damaged_options_never_crash(rng):
    """Every truncation and many changed bytes: refused or, where the damage does not matter, run."""
    from flatbuffers import flexbuffers

    good = bytes(flexbuffers.Dumps({**models.CONV_OPTIONS, "filter_h": 3, "filter_w": 3, "filter_in": 8}))
    damaged = [good[:i] for i in range(1, len(good), 3)]
    for i in range(0, len(good), 2):
        damaged += [good[:i] + bytes([value]) + good[i + 1 :] for value in (0, 255, int(rng.integers(1, 255)))]
    outcomes = set()
    for options in damaged:
        try:
            make_interpreter(raw_options_model(rng, options))
            outcomes.add("run")
        except (RuntimeError, ValueError):
            outcomes.add("refused")
    assert outcomes == {"run", "refused"}


def model_of(x_shape, weight, **options):
    return models.conv_model(x_shape, weight, (3, 3, 8), **options)


def test_damaged_weight(rng, capfd):
    blob = models.random_weight(rng, (40, 3, 3, 8), 0).to_bytes()
    for changed in (blob[: len(blob) // 2], blob[:100] + bytes([blob[100] ^ 1]) + blob[101:], b"NONE" + blob[4:], b""):
        model = models.ModelBuilder()
        x, y = model.tensor("x", X_SHAPE), model.tensor("y", (1, 6, 6, 40))
        model.custom("TFLiteSmart.Conv2D", [x, model.packed("filter", changed), -1], [y], {**models.CONV_OPTIONS, "filter_h": 3, "filter_w": 3, "filter_in": 8})
        assert "'filter': packed weight" in refused(model.build([x], [y]), capfd) or not changed


def test_tile_that_ends_wrong_is_an_error_of_invoke(rng, capfd):
    """A payload that matches its check sum and still is no rANS stream: only decoding can tell."""
    weight = models.random_weight(rng, (40, 3, 3, 8), 0)
    tile = bytearray(weight.tiles[0])
    tile[4 * weight.parameters.raw_bits * 72 + 10] ^= 0x55  # a state, behind the planes of 72 rows
    weight.tiles[0] = bytes(tile)
    interpreter = make_interpreter(models.conv_model(X_SHAPE, weight, (3, 3, 8)))
    with pytest.raises(RuntimeError) as error:
        invoke(interpreter, np.ones(X_SHAPE, np.float32))
    assert "tile_end must" in str(error.value) + capfd.readouterr().err


@pytest.mark.parametrize("bits", [1, 5, 8, 16])
@pytest.mark.parametrize("depthwise", [False, True])
def test_bias_in_the_packed_weight_is_added_as_the_floats_that_it_stands_for(rng, depthwise, bits):
    codes = np.concatenate([[-(1 << bits - 1), (1 << bits - 1) - 1, 0, -1], rng.integers(-(1 << bits - 1), 1 << bits - 1, 36)])
    bias = Bias(codes, bits, 1.25 * 2.0 ** (1 - bits))
    weight = models.random_weight(rng, (1, 3, 3, 40) if depthwise else (40, 3, 3, 8), 3 if depthwise else 0)
    shape, x = ((3, 3), rng.normal(size=(1, 6, 6, 40))) if depthwise else ((3, 3, 8), rng.normal(size=X_SHAPE))
    results = [
        run(models.conv_model(x.shape, w, shape, bias=b, depth_multiplier=1 if depthwise else None), x.astype(np.float32))
        for w, b in ((dataclasses.replace(weight, bias=bias), None), (weight, bias.values()), (weight, None))
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert np.count_nonzero(results[0] != results[2]) > 0.4 * results[0].size


def test_two_biases_are_refused(rng, capfd):
    weight = dataclasses.replace(models.random_weight(rng, (40, 3, 3, 8), 0), bias=Bias(np.arange(40), 7, 0.5))
    assert "bias must be in the packed weight or an input" in refused(model_of(X_SHAPE, weight, bias=np.ones(40, np.float32)), capfd)


def test_weight_that_does_not_fit_the_op(rng, capfd):
    weight = models.random_weight(rng, (40, 3, 3, 8), 0)
    assert "input channels must be a multiple of filter_in=8" in refused(model_of((1, 6, 6, 12), weight), capfd)
    assert "input dimensions must be 4" in refused(model_of((1, 6, 8), weight), capfd)
    assert "input must be at least as large as the filter" in refused(model_of((1, 2, 6, 8), weight, padding="VALID"), capfd)
    assert "bias elements must be 40" in refused(model_of(X_SHAPE, weight, bias=np.zeros(39, np.float32)), capfd)
    assert "bias type must be float32" in refused(model_of(X_SHAPE, weight, bias=np.zeros(40, np.int32)), capfd)
    assert "N must be input channels * depth_multiplier = 8 * 4" in refused(
        models.conv_model(X_SHAPE, models.random_weight(rng, (1, 3, 3, 40), 3), (3, 3), depth_multiplier=4), capfd
    )
    assert "multiple of the packed weight's K=72" in refused(models.fully_connected_model((1, 71), weight), capfd)
    integers = models.random_weight(rng, (40, 3, 3, 8), 0, value_kind="integer")
    assert "weight scales type must be float32. Received: type=none" in refused(model_of(X_SHAPE, integers), capfd)


def test_expand_into_another_shape(rng, capfd):
    weight = models.random_weight(rng, (40, 3, 8), 0)
    for shape, axis in [((40, 3, 9), 0), ((8, 3, 40), 2), ((40, 3, 8), 1), ((40, 24), 5)]:
        assert "must give the output's" in refused(models.expand_model(weight, shape, axis), capfd)


def test_gather_out_of_range(rng, capfd):
    weight = models.random_weight(rng, (40, 6), 0)
    content = models.gather_model(weight, (6,), (1, 3))
    for bad in (-1, 40):
        with pytest.raises(RuntimeError) as error:
            run(content, np.array([[0, bad, 1]], np.int32))
        assert f"indices must be 0..39. Received: indices[1]={bad}" in str(error.value) + capfd.readouterr().err
