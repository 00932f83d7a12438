"""Which weight may lose how much: from a recipe to the settings of every tensor, without data.

With small errors that are independent of each other, the noise that rounding adds to the model's output is the sum of what the layers add, each in proportion to its
relative error power `e_l ** 2`; a step half as wide costs one bit for each of its `n_l` weights. Minimising the bits for a given sum of noise (one Lagrangian) gives

    e_l ** 2 = error_budget * n_l / sum(n)

so a layer with a tenth of the weights gets a tenth of the noise: the thin layers (depthwise, first, last), where bits are cheap, are kept fine.
"""

import dataclasses
import math

from tflite_smart.converter import smartdeal
from tflite_smart.converter.compress import TensorSettings
from tflite_smart.converter.recipe import SmartConfig, WeightConfig

# Beyond 45 % rms error the buckets are wider than most weights, below 0.2 % they are finer than int8's.
_LEAST_RELATIVE_ERROR, _MOST_RELATIVE_ERROR = 0.002, 0.45
_MOST_BASIS_BITS = 1.0
_TABLE_OPS = ("GATHER", "EMBEDDING_LOOKUP")
_SPATIAL_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")


@dataclasses.dataclass(frozen=True)
class WeightInfo:
    """What the allocation needs to know of one constant tensor.

    Attributes:
        names: of the weight, and of the outputs of the operators that use it; what `op_name_configs` searches.
        op_type: builtin operator name of its user, for example `CONV_2D`.
        shape, axis: of the tensor; the axis of its output channels.
        dtype: `float32` (float16 behind a DEQUANTIZE counts as float32) or `int8`.
    """

    names: tuple[str, ...]
    op_type: str
    shape: tuple[int, ...]
    axis: int
    dtype: str

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Skip:
    """A weight that stays as it is, and why."""

    reason: str


def allocate(weights: list[WeightInfo], config: SmartConfig) -> list[TensorSettings | Skip]:
    """Settings for every weight, in order.

    Raises:
        RecipeError: for a pattern of the recipe that matches nothing.
    """
    config.check_names([name for weight in weights for name in weight.names])
    decisions = [_decide(weight, config) for weight in weights]
    total = sum(w.num_elements for w, d in zip(weights, decisions) if _shares_budget(w, d))
    return [
        _settings(weight, decision, config.error_budget * weight.num_elements / max(total, 1)) if isinstance(decision, WeightConfig) else decision
        for weight, decision in zip(weights, decisions)
    ]


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
    return isinstance(decision, WeightConfig) and weight.dtype != "int8" and decision.relative_error is None


def _settings(weight: WeightInfo, chosen: WeightConfig, noise: float) -> TensorSettings:
    relative_error = chosen.relative_error or min(max(math.sqrt(noise), _LEAST_RELATIVE_ERROR), _MOST_RELATIVE_ERROR)
    grouping = smartdeal.grouping((*weight.shape[: weight.axis], *weight.shape[weight.axis + 1 :]), weight.op_type in _SPATIAL_OPS)
    return TensorSettings(
        buckets=_buckets(weight, chosen, grouping),
        relative_error=relative_error,
        channel_exponent=chosen.channel_exponent,
        codecs=chosen.codecs,
        objective=chosen.objective,
        taps=_taps(weight),
        compute=chosen.compute,
        grouping=grouping,
    )


def _buckets(weight: WeightInfo, chosen: WeightConfig, grouping: tuple[int, int, int]) -> str:
    """What the recipe says, but for integers, and for channels so short that a basis of their own would cost more than it saves."""
    if weight.dtype == "int8":
        return "integer"
    channel_elements = weight.num_elements // weight.shape[weight.axis]
    too_short = smartdeal.basis_bits(channel_elements, grouping[0], grouping[2]) > _MOST_BASIS_BITS
    return "uniform" if chosen.buckets == "smartdeal" and too_short else chosen.buckets


def _taps(weight: WeightInfo) -> tuple[int, int] | None:
    """Height and width of a 2-D filter (OHWI or 1HWC), (1, 1) for other products; None for tables, whose rows are read one by one and never summed."""
    if weight.op_type in _TABLE_OPS:
        return None
    return weight.shape[1:3] if weight.op_type in _SPATIAL_OPS else (1, 1)
