"""Masks and schedules against their definition, in numpy."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the Keras side needs a backend")

from tflite_smart import schedules
from tflite_smart.converter.errors import RecipeError
from tflite_smart.converter.format import to_matrix
from tflite_smart.methods import Layout, Method, Prune
from tflite_smart.methods.pruning import block_mask, group_mask, magnitude_mask

CONV = Layout((3, 3, 8, 6), (3,), (0, 1))
DEPTHWISE = Layout((3, 3, 4, 2), (2, 3), (0, 1))


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.95])
def test_the_smallest_go(rng, sparsity):
    magnitudes = rng.random((10, 20)).astype(np.float32)
    keep = np.asarray(magnitude_mask(magnitudes, sparsity))
    assert (~keep).sum() == int(sparsity * 200 + 1e-4)
    assert magnitudes[~keep].max(initial=0) < magnitudes[keep].min()


def test_equal_magnitudes_leave_no_more_than_asked(rng):
    assert not np.asarray(magnitude_mask(np.ones((4, 4), np.float32), 0.5)).any()
    assert np.asarray(group_mask(np.ones((4, 8), np.float32), 4, 0.5)).sum() == 16


@pytest.mark.parametrize(("columns", "rest"), [(16, 0), (18, 2), (3, 3)])
def test_two_of_four(rng, columns, rest):
    magnitudes = rng.random((5, columns)).astype(np.float32)
    keep = np.asarray(group_mask(magnitudes, 4, 0.5))
    whole = columns - rest
    parts, values = keep[:, :whole].reshape(5, -1, 4), magnitudes[:, :whole].reshape(5, -1, 4)
    assert (parts.sum(-1) == 2).all() and keep[:, whole:].all()
    assert (np.where(parts, values, 2).min(-1) > np.where(parts, 0, values).max(-1)).all()


def test_blocks_go_together_and_edges_count_by_their_mean(rng):
    magnitudes = rng.random((7, 10)).astype(np.float32)
    magnitudes[6:, 8:] = 5
    keep = np.asarray(block_mask(magnitudes, [2, 4], 0.5))
    assert keep.shape == (7, 10) and keep[6:, 8:].all()
    whole = keep[:6, :8].reshape(3, 2, 2, 4)
    assert (whole == whole[:, :1, :, :1]).all()


@pytest.mark.parametrize("layout", [CONV, DEPTHWISE])
def test_matrix_of_a_layout_is_the_format_s(rng, layout):
    weight = rng.normal(size=layout.shape).astype(np.float32)
    matrix = np.asarray(layout.to_matrix(weight))
    merged = weight if len(layout.channel_axes) == 1 else weight.reshape(3, 3, -1)
    assert matrix.shape == layout.matrix_shape and np.array_equal(matrix, to_matrix(merged, merged.ndim - 1))
    assert np.array_equal(layout.from_matrix(matrix), weight)


@pytest.mark.parametrize("method", [Prune(0.5), Prune(0.5, group=4), Prune(0.5, block=(1, None)), Prune(0.5, block=(2, 8))])
def test_masks_only_grow(rng, method):
    weight, variables, zeros = rng.normal(size=CONV.shape).astype(np.float32), method.initial(np.ones(CONV.shape), CONV), None
    for sparsity in (0.25, 0.5):
        method = Prune(sparsity, method.group, method.block)
        variables = {name: np.asarray(value) for name, value in method.update(weight, variables, CONV, 1).items()}
        pruned = np.asarray(method.apply(weight, variables, CONV))
        assert abs((pruned == 0).mean() - sparsity) < 1 / 6 and (zeros is None or (pruned[zeros] == 0).all())
        zeros = pruned == 0
        weight = weight + rng.normal(size=CONV.shape).astype(np.float32)


def test_masks_change_only_when_due(rng):
    method = Prune(schedules.PolynomialDecay(0.0, 0.8, begin_step=10, end_step=37, frequency=10))
    weight, variables, seen = rng.normal(size=CONV.shape).astype(np.float32), method.initial(np.ones(CONV.shape), CONV), []
    for step in range(1, 45):
        variables = {name: np.asarray(value) for name, value in method.update(weight, variables, CONV, step).items()}
        seen.append(1 - variables["mask"].mean())
    changes = [step for step in range(2, 45) if seen[step - 1] != seen[step - 2]]
    assert changes == [21, 31, 38] and abs(seen[-1] - 0.8) < 0.003


def test_schedules_say_what_tfmot_s_say():
    pruning = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    for theirs in (pruning.PolynomialDecay(0.1, 0.9, 50, 450, frequency=50), pruning.ConstantSparsity(0.7, 100, 500, 100)):
        ours = schedules.get(theirs)
        assert type(ours).__module__ == "tflite_smart.schedules"
        for step in range(0, 600, 25):
            due, sparsity = ours(step)
            assert bool(due) == bool(theirs(step)[0]) and abs(float(sparsity) - float(theirs(step)[1])) < 1e-6


@pytest.mark.parametrize("method", [Prune(0.9), Prune(schedules.PolynomialDecay(0.0, 0.8, 0, 100)), Prune(0.5, group=4), Prune(0.5, block=(None, 4))])
def test_configuration(method):
    assert Method.from_config(method.get_config()) == method


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"name": "shrink"}, "one of"),
        ({"name": "prune", "sparseness": 0.5}, "sparseness"),
        ({"name": "prune", "sparsity": 1.0}, r"\[0, 1\)"),
        ({"name": "prune", "sparsity": 0.5, "group": 1}, "group"),
        ({"name": "prune", "sparsity": 0.5, "block": [0, 4]}, "block"),
        ({"name": "prune", "sparsity": {"class_name": "PolynomialDecay", "config": {"end": 3}}}, "PolynomialDecay"),
        ({"name": "prune", "sparsity": "much"}, "schedule must be"),
    ],
)
def test_errors(config, words):
    with pytest.raises(RecipeError, match=words):
        Method.from_config(config)
