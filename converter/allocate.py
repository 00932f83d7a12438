"""Which weight may lose how much: from a recipe, and what is known of the layers, to the settings of every tensor.

With small errors that are independent of each other, the noise that rounding adds to the model's output is the sum of what the layers add: `s_l * e_l ** 2` with the relative error
power `e_l ** 2` of the weights and the layer's sensitivity `s_l`. Minimising all bits for a given sum of noise is one Lagrangian for the whole model: every layer by itself
minimises `n_l * bits_l + lambda * s_l * e_l ** 2` over its steps. What was counted and measured of the layers (`rate_distortion`, `sensitivity`) is used as it is, and the error budget is
then the noise-to-signal ratio that the outputs are expected to have. Without, all sensitivities are 1 and a step half as wide costs one bit for each of the `n_l` weights, so

    e_l ** 2 = error_budget * n_l / sum(n)

and a layer with a tenth of the weights may add a tenth of the noise: the thin layers (depthwise, first, last), where bits are cheap, are kept fine.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tflite_smart.converter import smartdeal
from tflite_smart.converter.compress import TensorSettings
from tflite_smart.converter.rate_distortion import Curve
from tflite_smart.converter.recipe import SmartConfig, WeightConfig

# Beyond 45 % rms error the buckets are wider than most weights, below 0.2 % they are finer than int8's.
_LEAST_RELATIVE_ERROR, _MOST_RELATIVE_ERROR = 0.002, 0.45
_MOST_BASIS_BITS = 1.0
# So small a weight may also stay in floats, which takes little and keeps high fidelity in reach: first layers are thin, and all others suffer from their noise.
MOST_FLOATS, _FLOAT_BITS = 512, 32.0
TOO_SENSITIVE = "8-bit ids would add more noise to the outputs than the recipe allows for"
_TABLE_OPS = ("GATHER", "EMBEDDING_LOOKUP")
_BISECTIONS = 40
_SPATIAL_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")


@dataclasses.dataclass(frozen=True)
class WeightInfo:
    """What the allocation needs to know of one constant tensor.

    Attributes:
        names: of the weight, and of the outputs of the operators that use it; what `op_name_configs` searches.
        op_type: builtin operator name of its user, for example `CONV_2D`.
        shape, axis: of the tensor; the axis of its output channels.
        dtype: `float32` (float16 behind a DEQUANTIZE counts as float32) or `int8`.
        used_once: every use multiplies it with a single row.
    """

    names: tuple[str, ...]
    op_type: str
    shape: tuple[int, ...]
    axis: int
    dtype: str
    used_once: bool = False

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """What was found out about a weight: its rate-distortion curve, and its sensitivity, output noise over weight noise."""

    curve: Curve
    sensitivity: float


@dataclasses.dataclass(frozen=True)
class Skip:
    """A weight that stays as it is, and why."""

    reason: str


def allocate(weights: list[WeightInfo], config: SmartConfig, facts: Sequence[LayerFacts | None] | None = None) -> list[TensorSettings | Skip]:
    """Settings for every weight, in order.

    Args:
        facts: of every weight that shares the error budget, None for the others and for those that are no numbers; None for all where nothing was measured.

    Raises:
        RecipeError: for a pattern of the recipe that matches nothing.
    """
    config.check_names([name for weight in weights for name in weight.names])
    decisions = [_decide(weight, config) for weight in weights]
    shared = [index for index, (weight, decision) in enumerate(zip(weights, decisions)) if _shares_budget(weight, decision) and (facts is None or facts[index])]
    sizes = np.array([weights[index].num_elements for index in shared], float)
    if facts is None:
        errors = np.sqrt(config.error_budget * sizes / sizes.sum()).clip(_LEAST_RELATIVE_ERROR, _MOST_RELATIVE_ERROR)
    else:
        errors = _deal(config.error_budget, sizes, [facts[index] for index in shared])
    asked = dict(zip(shared, errors.tolist()))
    decisions = [Skip(TOO_SENSITIVE) if asked.get(index) == 0.0 else decision for index, decision in enumerate(decisions)]
    return [
        _settings(weight, decision, asked.get(index)) if isinstance(decision, WeightConfig) else decision
        for index, (weight, decision) in enumerate(zip(weights, decisions))
    ]


def _deal(budget: float, sizes: np.ndarray, facts: list[LayerFacts]) -> np.ndarray:
    """The relative error to ask of every layer so that all bits are fewest and the expected noise of the outputs is `budget`, 0 for a layer that had better stay as it is:
    bisection over the multiplier."""
    if not facts:
        return np.zeros(0)
    bits = sizes[:, None] * np.stack([np.append(fact.curve.bits, _FLOAT_BITS if size <= MOST_FLOATS else np.inf) for fact, size in zip(facts, sizes)])
    noise = np.stack([np.append(fact.sensitivity * fact.curve.noise, 0.0) for fact in facts])
    every = np.arange(len(facts))
    low, high = -20.0, 60.0  # log2 of the multiplier, bits for the whole noise of a layer
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        chosen = (bits + 2.0**middle * noise).argmin(axis=1)
        low, high = (middle, high) if noise[every, chosen].sum() > budget else (low, middle)
    return np.array([np.append(fact.curve.asked, 0.0)[index] for fact, index in zip(facts, (bits + 2.0**high * noise).argmin(axis=1))])


def shares_budget(weights: list[WeightInfo], config: SmartConfig) -> list[bool]:
    """Which weights get their error from the error budget: float ones for which the recipe does not fix it."""
    return [_shares_budget(weight, _decide(weight, config)) for weight in weights]


def _decide(weight: WeightInfo, config: SmartConfig) -> WeightConfig | Skip:
    chosen = config.for_weight(weight.op_type, weight.names)
    if chosen is None:
        return Skip("left alone by the recipe")
    if weight.num_elements < config.min_weight_elements:
        return Skip(f"fewer than min_weight_elements={config.min_weight_elements}")
    if config.integer_only and weight.dtype != "int8":
        return Skip("not int8, and the recipe recompresses integers only")
    return chosen


def _shares_budget(weight: WeightInfo, decision: WeightConfig | Skip) -> bool:
    return isinstance(decision, WeightConfig) and weight.dtype != "int8" and decision.relative_error is None and decision.buckets != "binary"


def _settings(weight: WeightInfo, chosen: WeightConfig, asked: float | None) -> TensorSettings:
    grouping = smartdeal.grouping((*weight.shape[: weight.axis], *weight.shape[weight.axis + 1 :]), weight.op_type in _SPATIAL_OPS)
    return TensorSettings(
        buckets=_buckets(weight, chosen, grouping),
        relative_error=chosen.relative_error or asked or _MOST_RELATIVE_ERROR,
        channel_exponent=chosen.channel_exponent,
        codecs=chosen.codecs,
        objective=chosen.objective or ("latency" if _wants_speed(weight, chosen) else None),
        taps=_taps(weight),
        compute=chosen.compute,
        grouping=grouping,
    )


def _wants_speed(weight: WeightInfo, chosen: WeightConfig) -> bool:
    """Where the recipe says nothing of it: decoding is all that weights used once cost, and who computes in int8 wants to be fast. int8 weights would not shrink."""
    return weight.used_once and chosen.compute == "int8" and weight.dtype != "int8"


def _buckets(weight: WeightInfo, chosen: WeightConfig, grouping: tuple[int, int, int]) -> str:
    """What the recipe says, but for integers, and for channels so short that a basis of their own would cost more than it saves."""
    if weight.dtype == "int8":
        return "integer"
    if chosen.buckets is None:
        return "uniform" if _wants_speed(weight, chosen) else "dependent"
    channel_elements = weight.num_elements // weight.shape[weight.axis]
    too_short = smartdeal.basis_bits(channel_elements, grouping[0], grouping[2]) > _MOST_BASIS_BITS
    return "uniform" if chosen.buckets == "smartdeal" and too_short else chosen.buckets


def _taps(weight: WeightInfo) -> tuple[int, int] | None:
    """Height and width of a 2-D filter (OHWI or 1HWC), (1, 1) for other products; None for tables, whose rows are read one by one and never summed."""
    if weight.op_type in _TABLE_OPS:
        return None
    return weight.shape[1:3] if weight.op_type in _SPATIAL_OPS else (1, 1)
