"""Targets of size, bits and accuracy: met, as near as the search promises, or refused by name."""

import numpy as np
import pytest

from tests.converter.hand_built import write
from tests.converter.test_convert import dense_tree
from tflite_smart.converter import calibration
from tflite_smart.converter.budget_search import LEAST_BUDGET, MOST_BUDGET, search_coarsest, search_size
from tflite_smart.converter.convert import convert
from tflite_smart.converter.errors import InputError, RecipeError, TargetError
from tflite_smart.converter.recipe import SmartConfig, resolve
from tflite_smart.converter.search import open_interpreter

SEED = 21


@pytest.fixture
def source(tmp_path):
    return write(dense_tree((128, 256, 128)), tmp_path / "plain.tflite")


@pytest.fixture
def labelled():
    """Inputs and the classes that the float model gives them: it is right in all, so that every change is a drop."""
    return np.random.default_rng(SEED).standard_normal((200, 128)).astype(np.float32)


def recipe(**target):
    return SmartConfig(min_weight_elements=256, error_budget=0.01, **target)


def test_target_size(source, tmp_path):
    snrs = []
    for target in (32000, 60000):
        report = convert(source, recipe(target_size_bytes=target), output=tmp_path / "smart.tflite", overwrite=True)
        assert 0.98 * target <= (tmp_path / "smart.tflite").stat().st_size == report.file_bytes_after <= target
        chosen = [trial for trial in report.trials if trial.error_budget == report.error_budget]
        assert [trial.file_bytes for trial in chosen] == [report.file_bytes_after] and chosen[0].output_snr_db == report.output_snr_db
        snrs.append(report.output_snr_db)
    assert snrs[0] + 10 < snrs[1], "more bytes buy more fidelity"


@pytest.mark.parametrize("target", [2.5, 4.0])
def test_target_bits(source, target):
    report = convert(source, recipe(target_bits_per_weight=target))
    bits = 8 * sum(row.bytes_after for row in report.packed) / sum(np.prod(row.shape) for row in report.packed)
    assert 0.98 * target <= bits <= target


def test_max_drop(source, tmp_path, labelled):
    scores = []
    interpreter = open_interpreter(source)
    for row in labelled:
        calibration.run(interpreter, [row[None]])
        scores.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).argmax())
    data = {"x": labelled, "y": np.array(scores)}
    few, many = (convert(source, recipe(target_max_drop=points), evaluation_data=data) for points in (3.0, 15.0))
    assert few.float_top1 == many.float_top1 == 1.0
    for report, points in ((few, 3.0), (many, 15.0)):
        chosen = next(trial for trial in report.trials if trial.error_budget == report.error_budget)
        assert 1 - points / 100 <= chosen.top1 <= 1
        coarser = [trial for trial in report.trials if trial.error_budget > report.error_budget]
        assert coarser and all(trial.top1 < 1 - points / 100 for trial in coarser)
    assert many.file_bytes_after < few.file_bytes_after


def test_the_same_target_gives_the_same_bytes(source, tmp_path):
    for name in ("a", "b"):
        convert(source, recipe(target_size_bytes=40000), output=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_out_of_reach_is_named(source, tmp_path, labelled):
    with pytest.raises(TargetError, match=r"target_size_bytes must be at least \d+.* Received: target_size_bytes=5000"):
        convert(source, recipe(target_size_bytes=5000), output=tmp_path / "smart.tflite")
    assert not (tmp_path / "smart.tflite").exists()
    with pytest.raises(TargetError, match="target_bits_per_weight must be at least"):
        convert(source, recipe(target_bits_per_weight=0.05))
    wrong = {"x": labelled, "y": np.zeros(len(labelled), int)}
    report = convert(source, recipe(target_max_drop=0.0), evaluation_data=wrong)
    assert report.float_top1 < 1
    with pytest.raises(InputError, match="evaluation_data must be given"):
        convert(source, recipe(target_max_drop=0.5))
    with pytest.raises(InputError, match="labels must be in"):
        convert(source, recipe(target_max_drop=0.5), evaluation_data={"x": labelled, "y": np.full(len(labelled), 99)})
    with pytest.raises(InputError, match="keys x"):
        convert(source, recipe(target_max_drop=0.5), evaluation_data={"x": labelled})


def test_one_target_at_a_time():
    with pytest.raises(RecipeError, match="at most one target. Received: target_snr_db=20, target_size_bytes=9"):
        SmartConfig(target_snr_db=20, target_size_bytes=9)
    assert resolve(None).aiming_at(target_size_bytes=9).targets == {"target_size_bytes": 9}
    assert resolve({"target_bits_per_weight": 3}).targets == {"target_bits_per_weight": 3}


@pytest.mark.parametrize(("field", "value"), [("target_size_bytes", 0), ("target_size_bytes", 1.5), ("target_bits_per_weight", 0), ("target_max_drop", "0.5")])
def test_bad_targets_name_the_field(field, value):
    with pytest.raises(RecipeError, match=field):
        resolve({field: value})


_SIZES = {
    "nearly straight": lambda budget: 1000 - 80 * np.log(budget) + 3 * np.log(budget) ** 2,
    "steep": lambda budget: 1000 - 80 * np.log(budget) + 12 * np.log(budget) ** 2,
    "flat where weights vanish": lambda budget: 180000 + 30000 * np.log2(1 + 0.02 / budget),
}


@pytest.mark.parametrize("curve", _SIZES)
@pytest.mark.parametrize("start", [0.5, 0.01, 1e-5])
@pytest.mark.parametrize("part", [0.1, 0.3, 0.6, 0.9])
def test_search_size_meets_curved_lines(start, curve, part):
    tried, size = [], _SIZES[curve]
    target = size(MOST_BUDGET) + part * (size(LEAST_BUDGET) - size(MOST_BUDGET))
    budget = search_size(lambda budget: tried.append(budget) or size(budget), target, start, 9)
    assert 0.995 * target <= size(budget) <= target and len(tried) <= 10
    assert search_size(size, size(MOST_BUDGET) - 1, start) is None
    assert search_size(size, size(LEAST_BUDGET) + 1, start, 9) <= 1.02 * LEAST_BUDGET


def test_search_coarsest_brackets_and_halves():
    good = lambda budget: budget <= 0.0123  # noqa: E731
    for start in (0.5, 0.01, 1e-4):
        assert 0.0123 / 10**0.1 <= search_coarsest(good, start, 12) <= 0.0123
    assert search_coarsest(lambda budget: False, 0.1, 12) is None
    assert search_coarsest(lambda budget: True, 0.1, 12) == pytest.approx(MOST_BUDGET, rel=0.1)
