"""Recipes: what to do with which weight, as data.

A recipe is a `SmartConfig` or the JSON object with the same keys, in the shape of coremltools' configuration tree:
`global_config`, then `op_type_configs` by operator name, then `op_name_configs` by a regular expression that is searched in the names of the operator's output tensor and of
the weight. A later entry wins, key by key; `None` (JSON `null`) leaves the weights alone.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.codecs import CODECS
from tflite_smart.converter.errors import RecipeError

BUCKETS = ("dependent", "uniform", "midrise", "binary", "smartdeal")
OBJECTIVES = ("size", "balanced", "latency")
COMPUTES = ("f32", "int8")
TARGETS = ("target_snr_db", "target_size_bytes", "target_bits_per_weight", "target_max_drop")


@dataclasses.dataclass(frozen=True)
class WeightConfig:
    """What a recipe may say of a weight. `None` in any field means 'as the recipe's level above says'.

    Attributes:
        relative_error: rms of the error over rms of the weights, in (0, 1); overrides the share of the error budget.
        buckets: `dependent` (trellis-coded, where that pays: smaller, a little slower to decode; the default), `uniform`, `midrise`, `binary` or `smartdeal`.
        channel_exponent: in [0, 1]: 0 one absolute error bound for all channels of a layer, 1 one relative to each channel's size.
        codecs: codec names to choose from.
        objective: `size`, `balanced` or `latency`: what decides the codec. None is `size`, with two exceptions. Weights that an inference uses once (dense layers of one row) take as
            long as decoding them: with `compute` `int8` their defaults are `latency` and `uniform` buckets. A dense layer of 4096 x 4096 Laplace weights then takes 5.0 instead of 3.5
            bits a weight and about a quarter of the time. And in full-integer models the layers that save the least, together a fiftieth of the weights' bytes, stay as they are:
            between them stand operators of the runtime's, and threads wait at each change of hands.
        compute: arithmetic of float layers at run time: `f32`, exact, or `int8`: inputs are quantized while the model runs, as LiteRT's dynamic-range models do, and the
            buckets' numbers are multiplied as they are. For CONV_2D and FULLY_CONNECTED with uniform buckets; all else stays `f32`. None leaves it to the delegate: `f32`, but `int8` for
            the int8 weights of a dynamic-range model.
    """

    relative_error: float | None = None
    buckets: str | None = None
    channel_exponent: float | None = None
    codecs: tuple[str, ...] | None = None
    objective: str | None = None
    compute: str | None = None

    def merged(self, later: "WeightConfig") -> "WeightConfig":
        """This configuration with the fields that `later` sets."""
        return dataclasses.replace(self, **{k: v for k, v in dataclasses.asdict(later).items() if v is not None})


# channel_exponent: at equal bits .75 gave the best output SNR on a MobileNet with many faint channels (1 wastes 3 bits a weight on them), and no other on ResNets.
_DEFAULTS = WeightConfig(channel_exponent=0.75, codecs=tuple(CODECS))


@dataclasses.dataclass(frozen=True)
class SmartConfig:
    """A recipe.

    Attributes:
        name: printed in reports.
        target_snr_db: signal-to-noise ratio of the model's outputs to aim at, against the original; `convert` measures it (`probe`) and chooses the error budget.
        target_size_bytes: the whole file may take this much.
        target_bits_per_weight: mean over all packed weights, their headers and scales counted.
        target_max_drop: points of top-1 (percent) that may be lost on the labelled data that `convert` is given. There is at most one target.
        error_budget: the noise-to-signal power ratio that `allocate` deals out to the layers. With a target it is only where the search starts.
        min_weight_elements: smaller constants stay as they are.
        bias_bits: 16 puts the float biases into the packed weights, in up to 16 bits each, as fine as the weights beside them are rounded; 32 keeps them as they are.
        integer_only: recompress int8 weights and leave float ones alone.
        global_config, op_type_configs, op_name_configs: see the module's text.

    Example:
        >>> config = SmartConfig.from_dict({"error_budget": 0.01, "op_type_configs": {"DEPTHWISE_CONV_2D": None}})
        >>> config.error_budget
        0.01
    """

    name: str = "custom"
    target_snr_db: float | None = None
    target_size_bytes: int | None = None
    target_bits_per_weight: float | None = None
    target_max_drop: float | None = None
    error_budget: float = 0.01
    min_weight_elements: int = 64
    bias_bits: int = 16
    integer_only: bool = False
    global_config: WeightConfig | None = WeightConfig()
    op_type_configs: Mapping[str, WeightConfig | None] = dataclasses.field(default_factory=dict)
    op_name_configs: Mapping[str, WeightConfig | None] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        rules = [
            ("name", lambda v: isinstance(v, str) and v, "a text"),
            ("error_budget", lambda v: _is_number(v) and 0 < v < 1, "a number in (0, 1)"),
            ("target_snr_db", lambda v: v is None or _is_number(v) and 0 < v < 120, "a number in (0, 120), or null"),
            ("target_size_bytes", lambda v: v is None or isinstance(v, int) and not isinstance(v, bool) and v > 0, "a whole number of bytes, or null"),
            ("target_bits_per_weight", lambda v: v is None or _is_number(v) and 0 < v <= 32, "a number in (0, 32], or null"),
            ("target_max_drop", lambda v: v is None or _is_number(v) and 0 <= v < 100, "points in [0, 100), or null"),
            ("min_weight_elements", lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1, "a whole number of at least 1"),
            ("bias_bits", lambda v: v in (16, 32) and isinstance(v, int), "16 or 32"),
            ("integer_only", lambda v: isinstance(v, bool), "true or false"),
        ]
        for field, valid, expected in rules:
            value = getattr(self, field)
            if not valid(value):
                raise RecipeError(f"recipe {self.name}: {field} must be {expected}. Received: {field}={value!r}.")
        if len(self.targets) > 1:
            raise RecipeError(f"recipe {self.name}: there must be at most one target. Received: {', '.join(f'{field}={value:g}' for field, value in self.targets.items())}.")
        for op_type in self.op_type_configs:
            if not hasattr(schema.BuiltinOperator, op_type):
                raise RecipeError(f"recipe {self.name}: op_type_configs must have builtin operators as keys, such as CONV_2D. Received: {op_type!r}.")
        for pattern in self.op_name_configs:
            try:
                re.compile(pattern)
            except re.error as error:
                raise RecipeError(f"recipe {self.name}: op_name_configs must have regular expressions as keys. Received: {pattern!r}. {error}.") from None
        for where, config in self._levels():
            _check(f"recipe {self.name}: {where}", config)

    @property
    def targets(self) -> dict[str, float]:
        """The targets that are set, by the name of their field; one at most."""
        return {field: getattr(self, field) for field in TARGETS if getattr(self, field) is not None}

    def aiming_at(self, **target: float) -> "SmartConfig":
        """The same recipe with this target instead of its own."""
        return dataclasses.replace(self, **{field: target.get(field) for field in TARGETS})

    def for_weight(self, op_type: str, names: tuple[str, ...]) -> WeightConfig | None:
        """The configuration of one weight, or None to leave it alone.

        Args:
            op_type: the builtin operator's name, for example `CONV_2D`.
            names: of the operator's output tensor and of the weight.
        """
        levels = [self.global_config]
        if op_type in self.op_type_configs:
            levels.append(self.op_type_configs[op_type])
        levels += [config for pattern, config in self.op_name_configs.items() if any(re.search(pattern, name) for name in names)]
        merged = _DEFAULTS
        for level in levels:
            merged = None if level is None else (merged or _DEFAULTS).merged(level)
        return merged

    def check_names(self, names: list[str]) -> None:
        """Raises RecipeError for a pattern that matches none of the model's names."""
        for pattern in self.op_name_configs:
            if not any(re.search(pattern, name) for name in names):
                examples = ", ".join(repr(name) for name in names[:3])
                raise RecipeError(f"recipe {self.name}: op_name_configs must match a tensor of the model. Received: {pattern!r}, which matches none. Names are like {examples}.")

    @classmethod
    def from_dict(cls, values: Mapping) -> "SmartConfig":
        """From the JSON object. Unknown keys raise RecipeError."""
        values = dict(_known_keys(values, cls, "recipe"))
        if "global_config" in values:
            values["global_config"] = _weight_config(values["global_config"], "global_config")
        for level in ("op_type_configs", "op_name_configs"):
            entries = values.get(level, {})
            if not isinstance(entries, Mapping):
                raise RecipeError(f"recipe: {level} must be an object. Received: {level}={entries!r}.")
            values[level] = {key: _weight_config(entry, f"{level}[{key!r}]") for key, entry in entries.items()}
        return cls(**values)

    def _levels(self):
        yield "global_config", self.global_config
        for level, entries in (("op_type_configs", self.op_type_configs), ("op_name_configs", self.op_name_configs)):
            for key, config in entries.items():
                yield f"{level}[{key!r}]", config


def resolve(recipe: "str | Path | Mapping | SmartConfig | None") -> SmartConfig:
    """A SmartConfig from a shipped recipe's name, a JSON file, a mapping or None (the default).

    Raises:
        RecipeError: unknown name, unreadable file or invalid content.
    """
    if recipe is None:
        return RECIPES["lossless_accuracy"]
    if isinstance(recipe, SmartConfig):
        return recipe
    if isinstance(recipe, Mapping):
        return SmartConfig.from_dict(recipe)
    if not isinstance(recipe, (str, Path)):
        raise RecipeError(f"recipe must be a name, a .json file, a mapping or a SmartConfig. Received: {type(recipe).__name__}.")
    if str(recipe) in RECIPES:
        return RECIPES[str(recipe)]
    path = Path(recipe)
    if path.suffix != ".json":
        raise RecipeError(f"recipe must be one of {', '.join(RECIPES)} or a .json file. Received: recipe={str(recipe)!r}.")
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"recipe {path}: must be a readable JSON file. Received: {error}.") from None
    if not isinstance(values, Mapping):
        raise RecipeError(f"recipe {path}: must be a JSON object. Received: {type(values).__name__}.")
    return SmartConfig.from_dict({"name": path.stem, **values})


def _weight_config(values, where: str) -> WeightConfig | None:
    if values is None or isinstance(values, WeightConfig):
        return values
    values = dict(_known_keys(values, WeightConfig, f"recipe: {where}"))
    if isinstance(values.get("codecs"), list):
        values["codecs"] = tuple(values["codecs"])
    return WeightConfig(**values)


def _known_keys(values, cls, where: str) -> Mapping:
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where} must be an object or null. Received: {values!r}.")
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise RecipeError(f"{where} must have only the keys {', '.join(known)}. Received: {', '.join(map(repr, unknown))}.")
    return values


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check(where: str, config: WeightConfig | None) -> None:
    if config is None:
        return
    if not isinstance(config, WeightConfig):
        raise RecipeError(f"{where} must be a WeightConfig or None. Received: {config!r}.")
    rules = [
        ("relative_error", lambda v: _is_number(v) and 0 < v < 1, "a number in (0, 1)"),
        ("channel_exponent", lambda v: _is_number(v) and 0 <= v <= 1, "a number in [0, 1]"),
        ("buckets", lambda v: v in BUCKETS, f"one of {', '.join(BUCKETS)}"),
        ("objective", lambda v: v in OBJECTIVES, f"one of {', '.join(OBJECTIVES)}"),
        ("compute", lambda v: v in COMPUTES, f"one of {', '.join(COMPUTES)}"),
        ("codecs", lambda v: isinstance(v, tuple) and v and all(name in CODECS for name in v), f"names out of {', '.join(CODECS)}"),
    ]
    for field, valid, expected in rules:
        value = getattr(config, field)
        if value is not None and not valid(value):
            raise RecipeError(f"{where}: {field} must be {expected}. Received: {field}={value!r}.")


RECIPES: dict[str, SmartConfig] = {
    config.name: config
    for config in (
        SmartConfig("lossless_accuracy", target_snr_db=28.0, error_budget=0.02),
        SmartConfig("balanced", target_snr_db=20.0, error_budget=0.04),
        SmartConfig("smallest", target_snr_db=15.0, error_budget=0.1),
        SmartConfig("fastest", target_snr_db=28.0, error_budget=0.02, global_config=WeightConfig(buckets="uniform", objective="latency")),
        SmartConfig("smartdeal", global_config=WeightConfig(buckets="smartdeal", relative_error=0.2)),
        SmartConfig("binary", global_config=WeightConfig(buckets="binary")),
        SmartConfig("recompress_int8", integer_only=True),
    )
}
