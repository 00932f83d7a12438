"""The scales of an int32 bias are the input's times the weight's: beside an operator of ours, which multiplies them itself, they need not be stored.

With their zero points they are 12 bytes a channel, of a model in integers a twentieth. An empty table stays in their place, so that `expand` knows.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, indices
from tflite_smart.converter.passes.base import OP_PREFIX

_X, _BIAS, _SCALES = 0, 2, 3


def apply(model: Model) -> int:
    """Empties the quantization of every bias that is what its only readers, operators of ours, would make of it; returns how many."""
    found = 0
    for subgraph in model.schema.subgraphs:
        for index, readers in model.consumers(subgraph).items():
            tensor = subgraph.tensors[index]
            if tensor.type == schema.TensorType.INT32 and all(number == _BIAS and _is_implied(model, subgraph, op, tensor) for op, number in readers):
                tensor.quantization = schema.QuantizationParametersT()
                found += 1
    return found


def restore(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT) -> None:
    """Gives the bias of an operator of ours its quantization back if that was emptied."""
    inputs = indices(op.inputs)
    bias = subgraph.tensors[inputs[_BIAS]]
    if bias.type == schema.TensorType.INT32 and bias.quantization is not None and bias.quantization.scale is None:
        bias.quantization.scale = _scales(model, subgraph, op)
        bias.quantization.zeroPoint = np.zeros(len(bias.quantization.scale), np.int64)


def _is_implied(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT, bias: schema.TensorT) -> bool:
    q = bias.quantization
    if not model.op_name(op).startswith(OP_PREFIX) or len(indices(op.inputs)) <= _SCALES or q is None or q.scale is None or q.zeroPoint is None:
        return False
    plain = q.details is None and not q.quantizedDimension and q.min is None and q.max is None and not np.any(q.zeroPoint) and len(q.zeroPoint) == len(q.scale)
    return plain and np.array_equal(q.scale, _scales(model, subgraph, op))


def _scales(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT) -> np.ndarray:
    inputs = indices(op.inputs)
    return np.float32(subgraph.tensors[inputs[_X]].quantization.scale[0]) * model.values(subgraph.tensors[inputs[_SCALES]])
