"""The comparison of two models: the figures, and that it fails when it should."""

import json
import math

import numpy as np
import pytest

from tflite_smart.converter.errors import VerificationError
from tflite_smart.converter.verify import Comparer, compare_runs


def compare(a, b):
    return compare_runs(lambda _: {"y": np.asarray(a)}, lambda _: {"y": np.asarray(b)}, [None])[0]


def test_equal_outputs_are_exact():
    result = compare([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]])
    assert (result.max_abs, result.relative, result.snr_db, result.cosine, result.top1) == (0, 0, math.inf, 1, 1)
    assert result.within(0)


def test_figures_by_hand():
    # a = (3, 4), b = (4, 3): difference (-1, 1), |a| = |b| = 5, a . b = 24, SNR = 10 log10(25 / 2).
    result = compare([3.0, 4.0], [4.0, 3.0])
    assert result.max_abs == 1
    assert result.relative == pytest.approx(math.sqrt(2) / 5)
    assert result.snr_db == pytest.approx(10.969100130)
    assert result.cosine == pytest.approx(0.96)
    assert result.top1 == 0
    assert result.within(0.283) and not result.within(0.282)


def test_samples_are_gathered():
    comparer = Comparer("y")
    comparer.add(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
    comparer.add(np.array([[0.0, 2.0]]), np.array([[3.0, 2.0]]))
    result = comparer.result()
    assert (result.top1, result.max_abs, result.num_values) == (0.5, 3, 4)
    assert result.relative == pytest.approx(math.sqrt(9 / 5))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_tolerance_accepts_a_number_that_is_none(bad):
    result = compare([1.0, 2.0], [1.0, bad])
    assert not result.within(1e9)
    assert json.dumps(result.to_dict(), allow_nan=False)


def test_the_same_infinity_is_equal():
    assert compare([1.0, -math.inf], [1.0, -math.inf]).within(0)


def test_zero_outputs():
    assert compare([0.0, 0.0], [0.0, 0.0]).within(0)
    assert not compare([0.0, 0.0], [0.0, 1e-9]).within(1e9)


def test_another_shape_another_number_of_outputs_and_no_samples_are_named():
    with pytest.raises(VerificationError, match=r"y: shape must be \[1, 2\]"):
        compare([[1.0, 2.0]], [[1.0], [2.0]])
    with pytest.raises(VerificationError, match="their number must be 1"):
        compare_runs(lambda _: {"y": np.ones(1)}, lambda _: {"y": np.ones(1), "z": np.ones(1)}, [None])
    with pytest.raises(VerificationError, match="at least one"):
        compare_runs(lambda _: {}, lambda _: {}, [])


def test_outputs_are_paired_by_name_else_by_position():
    first = {"p": np.array([1.0]), "q": np.array([2.0])}
    assert all(r.within(0) for r in compare_runs(lambda _: first, lambda _: {"q": first["q"], "p": first["p"]}, [None]))
    assert all(r.within(0) for r in compare_runs(lambda _: first, lambda _: {"u": first["p"], "v": first["q"]}, [None]))


def change_one_weight(weights):
    weights[2][3, 1234] += 0.05


def test_one_changed_weight_is_found(cli, float_model, make_model):
    changed = make_model(change=change_one_weight)
    same = cli("verify", float_model, float_model, "--tolerance", 0, "--json")
    assert same.returncode == 0, same.stderr
    assert json.loads(same.stdout)["outputs"][0]["max_abs"] == 0
    different = cli("verify", float_model, changed, "--tolerance", 0, "--json")
    assert different.returncode == 1, different.stderr
    report = json.loads(different.stdout)
    assert not report["within_tolerance"]
    # |delta y| = 0.05 * the largest activation, which lies between 0.1 and 10 for these weights and inputs.
    assert 0.005 < report["outputs"][0]["max_abs"] < 0.5
    assert cli("verify", float_model, changed, "--tolerance", 0.5).returncode == 0
    assert "NO" in cli("verify", float_model, changed, "--tolerance", 1e-4).stdout


def test_given_inputs_are_used(cli, float_model, make_model, tmp_path):
    """The changed weight meets an input of zeros and the bias' activation only where the convolution says so."""
    def only_where_active(weights):
        weights[1][:] = 0  # no bias: zeros stay zeros
    a = make_model("a.tflite", change=only_where_active)
    b = make_model("b.tflite", change=lambda w: (only_where_active(w), change_one_weight(w)))
    np.savez(tmp_path / "zeros.npz", x=np.zeros((3, 8, 8, 4), np.float32))
    assert cli("verify", a, b, "--tolerance", 0).returncode == 1
    assert cli("verify", a, b, "--tolerance", 0, "--inputs", tmp_path / "zeros.npz").returncode == 0


def test_smart_model_against_its_source(cli, float_model, smart_model):
    done = cli("verify", float_model, smart_model, "--json")
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)["outputs"][0]
    # Two layers of 3 % rms error each: 10 log10(1 / (2 * 0.03^2)) = 27.4 dB, for 160 outputs give or take 2.
    assert 25 < output["snr_db"] < 30
