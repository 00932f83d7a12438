"""From a model to packed weights: the decision for every weight, as data, and what came of it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tflite_smart.converter import check, layer_statistics
from tflite_smart.converter.allocate import LayerFacts, Skip, allocate
from tflite_smart.converter.compress import TensorSettings, compress_tensor
from tflite_smart.converter.errors import UnpackableWeightError
from tflite_smart.converter.format import HEADER_BYTES, READABLE_BYTES, Quantized
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.passes import FUSED
from tflite_smart.converter.recipe import SmartConfig
from tflite_smart.converter.selection import LeftAlone, Weight, find_weights, is_in_integers

# What an operator of ours adds to the file: options, if no other has the same. Expand is an operator more and takes time at every run. A weight must gain more than that for every operator.
_FUSED_BYTES, _EXPAND_BYTES = 128, 512
# A bias in front of which an Expand runs keeps the delegate from computing the operators before and behind it in one piece.
_ELEMENTWISE_BYTES, _ELEMENTWISE = 8192, ("ADD", "SUB", "MUL", "DIV")
# Of the bytes that a model's weights take in the file.
_LITTLE = 1 / 50
# As many integers are multiplied in the time in which one weight is decoded; and a model with no more weights is kept decoded.
_DECODED_IN, _KEPT_WEIGHTS = 14, 1 << 20


@dataclasses.dataclass(frozen=True)
class Planned:
    """The decision for one weight: settings to pack it with, or why not; what is known of its inputs, and what a training handed over of all weights."""

    weight: Weight
    decision: TensorSettings | Skip
    factors: layer_statistics.Factors | None = None
    trained: tuple[Quantized, ...] = ()


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One weight after encoding; `blob` is empty and `skipped` says why where it is left alone. `digest` is that of the values to decode to."""

    weight: Weight
    blob: bytes = b""
    codec: str = ""
    value_kind: str = ""
    bits_per_weight: float = 0.0
    max_error: float = 0.0
    relative_error: float = 0.0
    digest: bytes = b""
    skipped: str = ""
    compute: str | None = None


def plan(
    model: Model,
    config: SmartConfig,
    factors: layer_statistics.Factors | None = None,
    facts: Sequence[LayerFacts | None] | None = None,
    trained: tuple[Quantized, ...] = (),
) -> tuple[list[Planned], list[LeftAlone]]:
    """What to do with every weight, and which constants can't be packed at all. What is known of the layers may be given: see `layer_statistics`, `sensitivity`."""
    weights, left_alone = find_weights(model)
    decisions = allocate([weight.info for weight in weights], config, facts)
    return [Planned(weight, decision, factors, trained) for weight, decision in zip(weights, decisions)], left_alone


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a layer's inputs say in the compressed model: `factor` and `target` of `compress_tensor`."""

    factor: np.ndarray
    target: np.ndarray


def encode(planned: Planned, rounded: Quantized | None = None, seen: Seen | None = None) -> Encoded:
    """Packs one weight, unless the plan or its size say otherwise. `rounded` as in `compress_tensor`; `seen` takes the place of what is known of the original's layers."""
    weight, settings = planned.weight, planned.decision
    if isinstance(settings, Skip):
        return Encoded(weight, skipped=settings.reason)
    try:
        factor = seen.factor if seen else planned.factors.of(weight.buffer) if planned.factors else None
        result = compress_tensor(weight.values(), weight.info.axis, settings, factor, planned.trained, rounded, seen and seen.target)
    except UnpackableWeightError as error:
        return Encoded(weight, skipped=str(error).rstrip("."))
    size = counted_bytes(weight, len(result.blob))
    if size >= weight.stored.nbytes:
        return Encoded(weight, skipped=f"would not shrink: {size} bytes packed, its operators' share among them, {weight.stored.nbytes} now")
    digest = check.expected_digest(result.quantized, weight.info.shape, weight.info.axis)
    return Encoded(weight, result.blob, result.codec, result.value_kind, result.bits_per_weight, result.max_error, result.relative_error, digest, compute=settings.compute)


def counted_bytes(weight: Weight, blob_bytes: int) -> int:
    """What packing a weight puts into the file, which must be less than what is there. A float weight counts as if its ids took 8 bits each: whether it is packed must not depend on its
    error, or what is measured of it with one error would say nothing of another."""
    least = 0 if weight.info.dtype == "int8" else HEADER_BYTES + weight.info.num_elements + max(READABLE_BYTES, weight.info.shape[weight.info.axis])
    name = weight.info.op_type
    return max(blob_bytes, least) + len(weight.sites) * (_FUSED_BYTES if name in FUSED else _ELEMENTWISE_BYTES if name in _ELEMENTWISE else _EXPAND_BYTES)


def leave_little(encoded: Sequence[Encoded], planned: Sequence[Planned]) -> list[Encoded]:
    """The same, but layers in integers that save the least stay as they are, together at most `_LITTLE` of all, unless the recipe asks for `size`.

    They are where images are large and weights few. Between them stand operators of the runtime's, so each layer of ours hands its image over to other threads and back.
    """
    spare = _LITTLE * sum(len(entry.blob) or entry.weight.stored.nbytes for entry in encoded)
    little = {}
    for entry, plan_of in sorted(zip(encoded, planned), key=lambda pair: pair[0].weight.stored.nbytes - len(pair[0].blob)):
        if not entry.blob or plan_of.decision.objective == "size" or not all(is_in_integers(site) for site in entry.weight.sites):
            continue
        spare -= entry.weight.stored.nbytes - len(entry.blob)
        if spare < 0:
            break
        little[entry.weight.buffer] = Encoded(entry.weight, skipped="saves so little that the threads' wait before and behind an integer layer costs more; objective `size` packs it")
    return [little.get(entry.weight.buffer, entry) for entry in encoded]


def leave_slow(encoded: Sequence[Encoded], planned: Sequence[Planned]) -> list[Encoded]:
    """The same, but dense layers in integers that use each weight once stay as they are where decoding them would take longer than the whole model, unless the recipe asks for `size`.

    The runtime reads such weights several times as fast as they can be decoded, and integers shrink by a tenth to a fifth only.
    """
    slow = {
        entry.weight.buffer: Encoded(entry.weight, skipped="uses each weight once, and decoding it would take longer than the whole model; objective `size` packs it")
        for entry, plan_of in zip(encoded, planned)
        if entry.blob and entry.weight.info.used_once and plan_of.decision.objective != "size" and all(is_in_integers(site) for site in entry.weight.sites)
    }
    weights = sum(entry.weight.info.num_elements for entry in encoded)
    decoded = sum(entry.weight.info.num_elements for entry in encoded if entry.weight.buffer in slow)
    if weights <= _KEPT_WEIGHTS or _DECODED_IN * decoded <= sum(entry.weight.multiplications for entry in encoded):
        return list(encoded)
    return [slow.get(entry.weight.buffer, entry) for entry in encoded]


def encode_and_release(model: Model, planned: Planned, rounded: Quantized | None = None, seen: Seen | None = None) -> Encoded:
    """Encodes one weight and gives the memory of the original's bytes back."""
    encoded = encode(planned, rounded, seen)
    model.release()
    return encoded
