"""Recipes: levels, patterns, shipped names, and every way to get them wrong."""

import json
import math

import pytest

from tflite_smart.converter.allocate import Skip, WeightInfo, allocate
from tflite_smart.converter.errors import RecipeError
from tflite_smart.converter.recipe import RECIPES, SmartConfig, WeightConfig, resolve


def weight(name, elements, op_type="CONV_2D", dtype="float32"):
    return WeightInfo((name, name + "/output"), op_type, (elements // 8, 8), 0, dtype)


def test_later_levels_win_key_by_key():
    config = SmartConfig.from_dict(
        {
            "global_config": {"relative_error": 0.1, "buckets": "midrise"},
            "op_type_configs": {"CONV_2D": {"relative_error": 0.2}, "GATHER": None},
            "op_name_configs": {"stem": {"buckets": "uniform"}, "head$": None},
        }
    )
    assert config.for_weight("FULLY_CONNECTED", ("a",)).relative_error == 0.1
    stem = config.for_weight("CONV_2D", ("model/stem/conv",))
    assert (stem.relative_error, stem.buckets) == (0.2, "uniform")
    assert config.for_weight("CONV_2D", ("x", "model/head")) is None
    assert config.for_weight("GATHER", ("table",)) is None


def test_the_budget_is_dealt_out_by_size():
    weights = [weight("big", 80_000), weight("small", 8_000), weight("tiny", 80), weight("ints", 8_000, dtype="int8")]
    big, small, tiny, ints = allocate(weights, SmartConfig(error_budget=0.022, min_weight_elements=100))
    assert big.relative_error**2 + small.relative_error**2 == pytest.approx(0.022)
    assert big.relative_error / small.relative_error == pytest.approx(math.sqrt(10))
    assert isinstance(tiny, Skip) and "min_weight_elements" in tiny.reason
    assert ints.buckets == "integer"


def test_a_fixed_error_takes_no_share():
    config = SmartConfig(error_budget=0.01, op_name_configs={"fixed": WeightConfig(relative_error=0.3)})
    fixed, other = allocate([weight("fixed", 8000), weight("other", 8000)], config)
    assert fixed.relative_error == 0.3 and other.relative_error == pytest.approx(0.1)


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(RecipeError, match="matches none"):
        allocate([weight("conv", 8000)], SmartConfig(op_name_configs={"dense": None}))


@pytest.mark.parametrize("name", list(RECIPES))
def test_shipped_recipes_resolve(name):
    assert resolve(name).name == name


def test_the_default_recipe():
    assert resolve(None) is RECIPES["lossless_accuracy"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"error_bugdet": 0.1}, "error_bugdet"),
        ({"global_config": {"bits": 4}}, "bits"),
        ({"op_type_configs": {"CONV_2D": {"bits": 4}}}, "CONV_2D"),
        ({"op_type_configs": ["CONV_2D"]}, "object"),
        ({"global_config": 3}, "object or null"),
        ({"error_budget": 0}, "error_budget"),
        ({"error_budget": 2.0}, "error_budget"),
        ({"target_snr_db": -3}, "target_snr_db"),
        ({"min_weight_elements": 0}, "min_weight_elements"),
        ({"error_budget": "much"}, "error_budget"),
        ({"integer_only": "no"}, "integer_only"),
        ({"target_snr_db": True}, "target_snr_db"),
        ({"min_weight_elements": 2.5}, "min_weight_elements"),
        ({"bias_bits": 8}, "bias_bits"),
        ({"bias_bits": 16.0}, "bias_bits"),
        ({"name": 5}, "name"),
        ({"op_type_configs": {"CONV2D": None}}, "CONV2D"),
        ({"global_config": {"relative_error": 1.5}}, "relative_error"),
        ({"global_config": {"relative_error": "x"}}, "relative_error"),
        ({"global_config": {"channel_exponent": 2}}, "channel_exponent"),
        ({"global_config": {"buckets": "cubic"}}, "buckets"),
        ({"global_config": {"codecs": ["zip"]}}, "codecs"),
        ({"global_config": {"objective": "fun"}}, "objective"),
        ({"op_name_configs": {"[": None}}, "regular expression"),
    ],
)
def test_bad_recipes_name_the_field(values, message):
    with pytest.raises(RecipeError, match=message):
        resolve(values)


def test_recipe_files(tmp_path):
    good = tmp_path / "mine.json"
    good.write_text(json.dumps({"error_budget": 0.05}))
    assert resolve(good).name == "mine" and resolve(str(good)).error_budget == 0.05
    for content in ("{", "[1]"):
        bad = tmp_path / "bad.json"
        bad.write_text(content)
        with pytest.raises(RecipeError, match="bad.json"):
            resolve(bad)
    for value in (3, ["smallest"]):
        with pytest.raises(RecipeError, match="must be a name"):
            resolve(value)
    for missing in (tmp_path / "none.json", "no_such_recipe"):
        with pytest.raises(RecipeError, match="none.json|no_such_recipe"):
            resolve(missing)
