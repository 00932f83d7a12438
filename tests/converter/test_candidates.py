"""Candidates: what is patched in place is what a fresh file would hold, and sizes are told before anything is coded."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.converter.hand_built import Graph, model_tree, write
from tests.converter.test_convert import dense_tree
from tflite_smart.converter import sensitivity
from tflite_smart.converter.activity import undecided_bits
from tflite_smart.converter.candidates import Candidates
from tflite_smart.converter.convert import convert
from tflite_smart.converter.probe import Belief, Probe
from tflite_smart.converter.synthetic import RANGES, synthetic_inputs
from tflite_smart.converter.recipe import SmartConfig
from tflite_smart.converter.search import Search, open_interpreter

CONFIG = SmartConfig(min_weight_elements=256)
SEED = 9


@pytest.fixture
def source(tmp_path):
    return write(dense_tree((128, 256, 128)), tmp_path / "plain.tflite")


def test_a_patched_candidate_is_the_file_that_a_fresh_one_would_be(source, tmp_path):
    candidates = Candidates(source, CONFIG, None, str(tmp_path / "a.tflite"))
    first = candidates.dealt(0.1)
    assert first.errors[:2] == pytest.approx((0.1**0.5 * 0.7,) * 2, rel=0.2)
    patched = candidates.with_errors({0: 0.05}, others=0.2)
    fresh = Candidates(source, CONFIG, None, str(tmp_path / "b.tflite")).with_errors({0: 0.05}, others=0.2)
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()
    assert patched.errors == fresh.errors and patched.file_bytes == fresh.file_bytes
    assert patched.errors[0] == pytest.approx(0.05, rel=0.1) and patched.errors[1] == pytest.approx(0.2, rel=0.1)


def test_a_fine_copy_leaves_small_weights_in_floats(tmp_path):
    """Their 8 bits would be most of its noise; what is patched after it is again what a fresh file would hold."""
    small = write(dense_tree((32, 16, 128)), tmp_path / "plain.tflite")  # 512 and 2048 weights
    candidates = Candidates(small, SmartConfig(min_weight_elements=64), None, str(tmp_path / "a.tflite"))
    fine = candidates.fine_copy(sensitivity.FINEST)
    assert fine.errors[0] == 0.0 < fine.errors[1] < 0.01
    candidates.with_errors({}, others=0.2)
    Candidates(small, SmartConfig(min_weight_elements=64), None, str(tmp_path / "b.tflite")).with_errors({}, others=0.2)
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


@pytest.mark.parametrize("budget", [0.2, 0.01, 0.0005])
def test_the_size_is_told_within_two_percent(source, tmp_path, budget):
    told = Candidates(source, CONFIG, None, str(tmp_path / "a.tflite")).dealt(budget)
    report = convert(source, SmartConfig(min_weight_elements=256, error_budget=budget), output=tmp_path / "smart.tflite")
    assert told.file_bytes == pytest.approx(report.file_bytes_after, rel=0.02)
    real = 8 * sum(row.bytes_after for row in report.packed) / sum(np.prod(row.shape) for row in report.packed)
    assert told.bits_per_weight == pytest.approx(real, rel=0.02)


def relu_tree(input_scale, input_mean):
    """Dense layers with ReLUs whose pre-activations are about N(0, 1), as behind a batch normalisation, for inputs of that mean and scale."""
    tree, rng = model_tree(), np.random.default_rng(SEED)
    graph = Graph(tree)
    x = last = graph.tensor("x", (1, 128))
    mean, scale = input_mean, input_scale
    for number in range(3):
        w = rng.standard_normal((128, 128)) / np.sqrt(128 * scale**2)
        bias = -w.sum(1) * mean
        y = graph.tensor(f"y{number}", (1, 128))
        constants = [graph.constant(f"{name}{number}", v.astype(np.float32)) for name, v in (("w", w), ("b", bias))]
        graph.op("FULLY_CONNECTED", [last, *constants], [y], schema.FullyConnectedOptionsT(schema.ActivationFunctionType.RELU))
        last, mean, scale = y, 0.4, 0.58  # of a Gaussian behind a ReLU
    graph.finish([x], [last])
    return tree


@pytest.mark.parametrize(("name", "scale", "mean"), [("standard normal", 1, 0), ("0 to 1", 0.25, 0.5), ("0 to 255", 64, 128), ("decibels", 15, -30)])
def test_activity_tells_the_range_that_a_model_was_made_for(name, scale, mean, tmp_path):
    path = write(relu_tree(scale, mean), tmp_path / "relu.tflite")
    interpreter = open_interpreter(path)
    sets = dict(zip(RANGES, synthetic_inputs(interpreter.get_input_details(), 12)))
    bits = undecided_bits(open_interpreter, path, sets)
    assert max(bits, key=bits.get) == name and bits[name] > 0.5
    probe = Probe(open_interpreter, path, rate=lambda sets: undecided_bits(open_interpreter, path, sets))
    assert (probe.inputs_name, probe.belief) == (name, Belief.ACTIVITY)


def branches_tree(weak):
    """y = A x + weak * B x: an error in B does `weak ** 2` as much as one in A."""
    tree, rng = model_tree(), np.random.default_rng(SEED)
    graph = Graph(tree)
    x = graph.tensor("x", (1, 64))
    outputs = []
    for name, factor in (("a", 1.0), ("b", weak)):
        w = graph.constant(name, (factor * rng.standard_normal((64, 64))).astype(np.float32))
        outputs.append(graph.tensor(f"{name}/y", (1, 64)))
        graph.op("FULLY_CONNECTED", [x, w, -1], [outputs[-1]], schema.FullyConnectedOptionsT())
    y = graph.tensor("y", (1, 64))
    graph.op("ADD", outputs, [y], schema.AddOptionsT())
    graph.finish([x], [y])
    return tree


def test_sensitivities_are_those_of_the_network(tmp_path):
    """With given inputs they are taken as measured: 20 dB apart, each known from 4 roundings of 64 outputs to about 1 dB. Balanced rounding does less than plain rounding would, 0 dB."""
    path = write(branches_tree(0.1), tmp_path / "branches.tflite")
    inputs = np.random.default_rng(SEED).standard_normal((32, 64)).astype(np.float32)
    search = Search(path, CONFIG, Candidates(path, CONFIG, None, str(tmp_path / "c.tflite")), inputs)
    search.look()
    found = [10 * np.log10(fact.sensitivity) for fact in search.result.facts]
    assert found[0] - found[1] == pytest.approx(20, abs=2) and -5 < found[0] < 1
    made_up = Search(path, CONFIG, Candidates(path, CONFIG, None, str(tmp_path / "d.tflite")), None)
    made_up.look()
    drawn = [10 * np.log10(fact.sensitivity) for fact in made_up.result.facts]
    assert 5 < drawn[0] - drawn[1] < 15, "without ReLUs to go by, half of the difference in dB is believed"


def test_many_layers_are_measured_in_groups(source, tmp_path):
    candidates = Candidates(source, CONFIG, None, str(tmp_path / "a.tflite"))
    assert [len(group) for group in sensitivity.groups(candidates, 2)] == [2, 1]
    assert [sensitivity.repeats(number, 96) for number in (1, 40, 60)] == [4, 2, 1] and sensitivity.repeats(10, 10) == 1
