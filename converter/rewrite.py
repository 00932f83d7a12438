"""Puts the packed weights into the model: chooses the pass for every use of them and applies it. No numerics."""

import copy
import dataclasses
import json
from collections.abc import Iterable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart import __version__
from tflite_smart.converter import control_dependencies, slim
from tflite_smart.converter.format import VERSION as FORMAT_VERSION
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.passes import FUSED, bias, dequantize, expand, integer_bias, packed_bias, reshape
from tflite_smart.converter.passes.base import OP_PREFIX, Encoding
from tflite_smart.converter.recipe import SmartConfig
from tflite_smart.converter.selection import Weight, is_fused

METADATA_ENTRY = "TFLITE_SMART"
_REQUIRES = "pip install tflite_smart, then tflite_smart.Interpreter(path) or the delegate that `tflite_smart delegate` names"


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """What became of a model. `runs_as`: for every packed buffer the names of the operators of ours that read it. `buffers`: old numbers of buffers -> new ones. `blobs`: for every packed
    buffer, by its old number, the bytes that it has now."""

    runs_as: dict[int, str]
    buffers: dict[int, int]
    blobs: dict[int, np.ndarray]


def rewrite(model: Model, packed: Iterable[tuple[Weight, bytes, Encoding]], config: SmartConfig) -> Rewritten:
    """Edits the model in place."""
    packed = list(packed)
    if not packed:
        return Rewritten({}, {}, {})
    slim.drop_ballast(model)
    before = control_dependencies.operator_order(model)
    for subgraph in model.schema.subgraphs:
        reshape.apply(model, subgraph)
    runs_as = {weight.buffer: _rewrite_weight(model, weight, blob, encoding) for weight, blob, encoding in packed}
    for subgraph in model.schema.subgraphs:
        bias.apply(model, subgraph)
    if config.bias_bits == 16 and not config.integer_only:
        errors = {weight.buffer: encoding.relative_error for weight, _, encoding in packed if encoding.relative_error is not None}
        slim.drop_unused(model, packed_bias.apply(model, errors))
    integer_bias.apply(model)
    control_dependencies.renumber(model, before)
    model.drop_unused_codes()
    about = {"format_version": FORMAT_VERSION, "tool_version": __version__, "recipe": config.name, "requires": _REQUIRES}
    model.set_metadata(METADATA_ENTRY, json.dumps(about, sort_keys=True).encode())
    blobs = {weight.buffer: model.schema.buffers[weight.buffer].data for weight, *_ in packed}
    return Rewritten(runs_as, slim.share_empty_buffers(model), blobs)


def is_smart(model: Model) -> bool:
    """Whether the model has operators of ours."""
    return any(model.op_name(op).startswith(OP_PREFIX) for subgraph in model.schema.subgraphs for op in subgraph.operators or ())


def _rewrite_weight(model: Model, weight: Weight, blob: bytes, encoding: Encoding) -> str:
    # Everything is decided before the first edit, as edits change what there is to look at.
    uses = [(site, FUSED[model.op_name(site.op)] if is_fused(model, site) else None, site.weight) for site in weight.sites]
    edits = [expand.apply(model, site, encoding, seen) if kernel is None else kernel.apply(model, site, encoding) for site, kernel, seen in uses]
    for subgraph, op in {id(site.dequantize): (site.subgraph, site.dequantize) for site in weight.sites if site.dequantize}.values():
        dequantize.apply(subgraph, op)
    model.set_buffer(weight.buffer, blob)
    for subgraph, index in weight.tensors:
        _make_packed(subgraph.tensors[index], len(blob))
    return ", ".join(dict.fromkeys(edit.after.removeprefix(OP_PREFIX) for edit in edits))


def _make_packed(tensor: schema.TensorT, size: int) -> None:
    """The constant keeps its index, its name and its buffer, and becomes the bytes of the packed weight."""
    tensor.type, tensor.shape, tensor.shapeSignature = schema.TensorType.UINT8, np.array([size], np.int32), None
    if tensor.quantization is not None and tensor.quantization.details is not None:
        tensor.quantization = None
    elif tensor.quantization is not None:
        # Scales and zero points are elsewhere, see `passes.base.packed_inputs` and `passes.expand`; the rest waits for `expand`.
        tensor.quantization = copy.copy(tensor.quantization)
        tensor.quantization.scale = tensor.quantization.zeroPoint = None
