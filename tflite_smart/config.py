"""Recipes of `smart_wrap`: which methods go to which weight, as data, in the same tree as those of the converter."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from tflite_smart.activations import LEARNED
from tflite_smart.converter.errors import RecipeError
from tflite_smart.methods import METHODS, Method

RANGES = {"moving_average": None, "learned": LEARNED}


@dataclasses.dataclass(frozen=True)
class WrapConfig:
    """A recipe for training.

    The most specific entry wins, a later one over an earlier one; `None` leaves a weight alone. An entry is a method, the mapping of its `get_config`, or a list of them that are applied in turn.

    Attributes:
        global_config: for all weights.
        op_type_configs: by Keras class, for example `Dense`.
        op_name_configs: by a regular expression that is searched in `path/of/the/layer/kernel`.
        min_weight_elements: smaller weights stay as they are.
        activation_bits: 8 rounds activations as well, so that the model can run in integers alone; None leaves them in floating point.
        activation_ranges: `moving_average` of what the batches reach, or `learned`: trained with the weights, see `activations.SmartRange`.

    Example:
        >>> WrapConfig.from_dict({"global_config": {"name": "prune", "sparsity": 0.9}, "op_name_configs": {"^head/": None}}).global_config[0].name
        'prune'
    """

    global_config: tuple[Method, ...] | None = None
    op_type_configs: Mapping[str, tuple[Method, ...] | None] = dataclasses.field(default_factory=dict)
    op_name_configs: Mapping[str, tuple[Method, ...] | None] = dataclasses.field(default_factory=dict)
    min_weight_elements: int = 512
    activation_bits: int | None = None
    activation_ranges: str = "moving_average"

    def __post_init__(self):
        object.__setattr__(self, "global_config", _entry(self.global_config))
        for level in ("op_type_configs", "op_name_configs"):
            entries = getattr(self, level)
            if not isinstance(entries, Mapping):
                raise RecipeError(f"recipe: {level} must be an object. Received: {level}={entries!r}.")
            object.__setattr__(self, level, {key: _entry(entry) for key, entry in entries.items()})
        for pattern in self.op_name_configs:
            try:
                re.compile(pattern)
            except re.error as error:
                raise RecipeError(f"recipe: op_name_configs must have regular expressions as keys. Received: {pattern!r}. {error}.") from None
        if not isinstance(self.min_weight_elements, int) or self.min_weight_elements < 1:
            raise RecipeError(f"recipe: min_weight_elements must be a whole number of at least 1. Received: min_weight_elements={self.min_weight_elements!r}.")
        if self.activation_bits not in (None, 8):
            raise RecipeError(f"recipe: activation_bits must be 8 or null. Received: activation_bits={self.activation_bits!r}.")
        if self.activation_ranges not in RANGES:
            raise RecipeError(f"recipe: activation_ranges must be one of {', '.join(RANGES)}. Received: activation_ranges={self.activation_ranges!r}.")
        floating = {method.name for entry in (self.global_config, *self.op_type_configs.values(), *self.op_name_configs.values()) for method in entry or () if not method.has_integer_form}
        if self.activation_bits and floating:
            raise RecipeError(
                f"recipe: activation_bits must be null beside {', '.join(sorted(floating))}, whose weights no 8-bit integers hold. Received: activation_bits={self.activation_bits}. "
                "Leave activation_bits out, or use quantize, ternarize or cluster."
            )

    @property
    def range_kind(self) -> str | None:
        """Of the `SmartRange`s whose range is not fixed."""
        return RANGES[self.activation_ranges]

    def for_weight(self, class_names: list[str], path: str) -> tuple[Method, ...] | None:
        """The methods of one weight, or None.

        Args:
            class_names: of the layer and its base classes.
            path: `path/of/the/layer/kernel`.
        """
        chosen = self.global_config
        for name, entry in self.op_type_configs.items():
            if name in class_names:
                chosen = entry
        for pattern, entry in self.op_name_configs.items():
            if re.search(pattern, path):
                chosen = entry
        return chosen

    def check_names(self, class_names: set[str], paths: list[str]) -> None:
        """Raises RecipeError for a class or pattern that matches nothing in the model."""
        for name in self.op_type_configs:
            if name not in class_names:
                raise RecipeError(f"recipe: op_type_configs must name layers of the model. Received: {name!r}. It has {', '.join(sorted(class_names))}.")
        for pattern in self.op_name_configs:
            if not any(re.search(pattern, path) for path in paths):
                raise RecipeError(f"recipe: op_name_configs must match a weight of the model. Received: {pattern!r}, which matches none. Names are like {', '.join(map(repr, paths[:3]))}.")

    @classmethod
    def from_dict(cls, values: Mapping) -> "WrapConfig":
        """From the JSON object. Unknown keys raise RecipeError."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise RecipeError(f"recipe: keys must be out of {', '.join(known)}. Received: {', '.join(map(repr, unknown))}.")
        return cls(**values)


def resolve(recipe) -> WrapConfig:
    """A WrapConfig from one, a method or list of methods for all weights, a method's name (with its defaults), a mapping, or a JSON file."""
    if isinstance(recipe, WrapConfig):
        return recipe
    if isinstance(recipe, (Method, list, tuple)):
        return WrapConfig(recipe)
    if isinstance(recipe, Mapping):
        return WrapConfig(recipe) if "name" in recipe else WrapConfig.from_dict(recipe)
    if isinstance(recipe, (str, Path)) and Path(recipe).suffix == ".json":
        try:
            return resolve(json.loads(Path(recipe).read_text()))
        except (OSError, ValueError) as error:
            if isinstance(error, RecipeError):
                raise
            raise RecipeError(f"recipe {recipe}: must be a readable JSON file. Received: {error}.") from None
    if isinstance(recipe, str) and recipe in METHODS:
        return WrapConfig({"name": recipe})
    raise RecipeError(f"recipe must be a WrapConfig, methods, a mapping, a .json file or one of {', '.join(sorted(METHODS))}. Received: {recipe!r}.")


def _entry(values) -> tuple[Method, ...] | None:
    if values is None:
        return None
    entries = values if isinstance(values, (list, tuple)) else (values,)
    return tuple(entry if isinstance(entry, Method) else Method.from_config(entry) for entry in entries)
