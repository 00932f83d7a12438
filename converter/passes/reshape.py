"""A RESHAPE to a shape that is packed while the model runs -> a RESHAPE to a constant one.

For an unknown batch converters write SHAPE, STRIDED_SLICE and PACK in front of a RESHAPE: three operators that compute one number, and between which the graph is cut,
as no delegate takes them. A packed shape of constants and one other number leaves that number no choice: it is -1, what is left of the elements.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, indices, shape
from tflite_smart.converter.passes.expand import position

_SERVANTS = ("SHAPE", "STRIDED_SLICE")  # what goes with a PACK if nothing else reads it


def apply(model: Model, subgraph: schema.SubGraphT) -> int:
    """Makes the outputs of such PACKs constants, under their own indices, and removes the operators; returns how many."""
    before, consumers, outputs = len(subgraph.operators or ()), model.consumers(subgraph), indices(subgraph.outputs)
    for op in list(subgraph.operators or ()):
        values = _constant_shape(model, subgraph, op)
        if values is None or int(op.outputs[0]) in outputs:
            continue
        readers = consumers.get(int(op.outputs[0]), [])
        if readers and all(model.op_name(reader) == "RESHAPE" and number == 1 for reader, number in readers):
            model.schema.buffers.append(schema.BufferT(np.frombuffer(values.tobytes(), np.uint8)))
            subgraph.tensors[int(op.outputs[0])].buffer = len(model.schema.buffers) - 1
            _remove(model, subgraph, op)
    return before - len(subgraph.operators or ())


def _constant_shape(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT) -> np.ndarray | None:
    """What the PACK gives, int32 `(rank,)` with one -1; None if this is none, or one that it can't be said of."""
    if model.op_name(op) != "PACK" or not isinstance(op.builtinOptions, schema.PackOptionsT) or op.builtinOptions.axis != 0 or len(indices(op.outputs)) != 1:
        return None
    tensors = [subgraph.tensors[index] for index in indices(op.inputs)]
    if any(tensor.type != schema.TensorType.INT32 or shape(tensor) != () for tensor in tensors):
        return None
    values = np.array([model.values(tensor) if model.is_constant(tensor) else -1 for tensor in tensors], np.int32)
    # With a 0 among them anything could be left.
    return values if sum(not model.is_constant(tensor) for tensor in tensors) == 1 and np.sum(values < 1) == 1 else None


def _remove(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT) -> None:
    """Removes the operator, and before it what served nobody else. The tensors stay, so that no index changes."""
    del subgraph.operators[position(subgraph, op)]
    needed = set(model.consumers(subgraph)) | set(indices(subgraph.outputs))
    for other in list(subgraph.operators):
        served = set(indices(other.outputs))
        if served & set(indices(op.inputs)) and not served & needed and model.op_name(other) in _SERVANTS:
            _remove(model, subgraph, other)
