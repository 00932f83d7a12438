"""The float bias of an operator of ours -> into its packed weight, as fine as the weights there: a bias is one more weight of its channel, of an input that is always 1.

Without a tensor, a buffer and an input of its own a small layer is a tenth shorter. Biases of integer arithmetic stay what they are.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.channel_codes import Bias
from tflite_smart.converter.format import PackedWeight
from tflite_smart.converter.model_editor import Model, indices
from tflite_smart.converter.passes.base import OP_PREFIX

_WEIGHT, _BIAS = 1, 2
_READERS = tuple(OP_PREFIX + name for name in ("Conv2D", "DepthwiseConv2D", "FullyConnected"))
# Where weights have no error, their inputs have one: LiteRT's dynamic-range kernels round those to 8 bits.
_LEAST_ERROR = 2.0**-8
_MARGIN = 0.35  # biases may be a few times as large as what the weights add up to
_NORMAL = 1.48  # root of the mean square of normal numbers over the median of their magnitudes


def apply(model: Model, errors: Mapping[int, float]) -> list[tuple[schema.SubGraphT, int]]:
    """Packs the biases that all readers of a packed weight have in common; returns their tensors, `(subgraph, index)`.

    Args: errors: for the buffers of packed weights their relative errors, root of mean squares.
    """
    uses: dict[int, list] = {}
    for subgraph in model.schema.subgraphs:
        for op in subgraph.operators or ():
            for number, index in enumerate(indices(op.inputs)):
                if index >= 0 and subgraph.tensors[index].buffer in errors:
                    uses.setdefault(subgraph.tensors[index].buffer, []).append((subgraph, op, number))
    done = []
    for buffer, readers in uses.items():
        values = _common_bias(model, readers)
        if values is None:
            continue
        packed = PackedWeight.from_bytes(bytes(model.schema.buffers[buffer].data))
        bias = Bias.nearest(values, step(values, packed.channel_elements, errors[buffer]))
        if bias is None:
            continue
        blob = dataclasses.replace(packed, bias=bias).to_bytes()
        model.set_buffer(buffer, blob)
        for subgraph, op, _ in readers:
            subgraph.tensors[int(op.inputs[_WEIGHT])].shape = np.array([len(blob)], np.int32)
            done.append((subgraph, int(op.inputs[_BIAS])))
            op.inputs = np.array([*op.inputs[:_BIAS], *([-1, *op.inputs[_BIAS + 1 :]] if len(op.inputs) > _BIAS + 1 else [])], np.int32)
    return done


def step(values: np.ndarray, channel_elements: int, relative_error: float) -> float:
    """Such that a bias is off by about as much as one weight makes the sum of `channel_elements` products be off, that sum being of the biases' size; some may be far larger, as of
    channels that were never meant to be on."""
    size = _NORMAL * float(np.median(np.abs(values[values != 0]))) if values.any() else 0.0
    return _MARGIN * max(relative_error, _LEAST_ERROR) * math.sqrt(12 / channel_elements) * size


def restore(model: Model, subgraph: schema.SubGraphT, bias: Bias) -> int:
    """The bias as a constant tensor again; returns its index."""
    return model.add_constant(subgraph, "bias", bias.values())


def _common_bias(model: Model, readers: list) -> np.ndarray | None:
    """The bias of all these operators, float32 `(num_channels,)`; None where they have none, or not the same, or one that can't be packed."""
    found = {_bias_buffer(model, *reader) for reader in readers}
    buffer = found.pop()
    if found or buffer is None:
        return None
    return np.frombuffer(model.schema.buffers[buffer].data, np.float32)


def _bias_buffer(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT, number: int) -> int | None:
    inputs = indices(op.inputs)
    if number != _WEIGHT or model.op_name(op) not in _READERS or len(inputs) <= _BIAS or inputs[_BIAS] < 0:
        return None
    tensor = subgraph.tensors[inputs[_BIAS]]
    return tensor.buffer if tensor.type == schema.TensorType.FLOAT32 and model.has_data(tensor) else None
