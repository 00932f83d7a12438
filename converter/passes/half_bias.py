"""The float32 bias of an operator of ours -> float16, which it reads as well: half the bytes, and an error far below that of any weight (a part in 2048 of each value).

The builtin operators can't read it, int8 weights are stored without loss and so are the biases beside them: those stay as they are.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, indices
from tflite_smart.converter.passes.base import OP_PREFIX

_BIAS = 2
_READERS = tuple(OP_PREFIX + name for name in ("Conv2D", "DepthwiseConv2D", "FullyConnected"))


def apply(model: Model) -> int:
    """Rounds the biases that nothing else reads and that float16 can hold; returns how many."""
    held, found = model.buffers_outside_graph(), 0
    for buffer, tensors in _readable(model).items():
        values = None if tensors is None or buffer in held else model.values(tensors[0])
        if values is None or not np.all(np.abs(values) <= np.finfo(np.float16).max):  # NaN is not
            continue
        model.set_buffer(buffer, values.astype(np.float16).tobytes())
        for tensor in tensors:
            tensor.type = schema.TensorType.FLOAT16
        found += 1
    return found


def restore(model: Model, tensor: schema.TensorT) -> None:
    """The same values in float32; tensors of the same buffer, which has been restored already, only take that type."""
    if tensor.type == schema.TensorType.FLOAT16:
        if model.buffer_bytes(tensor.buffer) == 2 * int(np.prod(indices(tensor.shape))):
            model.set_buffer(tensor.buffer, model.values(tensor).astype(np.float32).tobytes())
        tensor.type = schema.TensorType.FLOAT32


def _readable(model: Model) -> dict[int, list[schema.TensorT] | None]:
    """For every buffer of constants its tensors, if operators of ours are all that reads them, and as a bias beside weights that are no integers; else None."""
    found: dict[int, list | None] = {}
    for subgraph in model.schema.subgraphs:
        consumers, outputs = model.consumers(subgraph), indices(subgraph.outputs)
        for index, tensor in enumerate(subgraph.tensors):
            if not model.has_data(tensor):
                continue
            readers = consumers.get(index, ())
            good = readers and index not in outputs and tensor.type == schema.TensorType.FLOAT32 and all(_is_bias(model, op, number) for op, number in readers)
            others = found.setdefault(tensor.buffer, [])
            found[tensor.buffer] = others + [tensor] if good and others is not None else None
    return found


def _is_bias(model: Model, op: schema.OperatorT, number: int) -> bool:
    return number == _BIAS and model.op_name(op) in _READERS and len(indices(op.inputs)) == _BIAS + 1
