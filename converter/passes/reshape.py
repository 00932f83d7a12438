"""A RESHAPE to a shape that is put together while the model runs -> a RESHAPE to a constant one.

For an unknown batch converters compute the new shape from that of another tensor: SHAPE, then STRIDED_SLICE and PACK, or for a dense layer of a sequence GATHER, REDUCE_PROD, PACK and
CONCATENATION. These operators compute one number between them, and the graph is cut there, as no delegate takes them. Where all but one number of the shape are known, that one has no
choice: it is -1, what is left of the elements.
"""

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, indices, shape
from tflite_smart.converter.passes.expand import position

_DEPTH = 8  # of operators behind each other, more than converters write: a damaged graph may go in circles
_Numbers = list[int | None]  # of a scalar or a vector; None: not known before the model runs


def apply(model: Model, subgraph: schema.SubGraphT) -> int:
    """Makes such shapes constants, under their own indices, and removes the operators that nobody needs any more; returns how many."""
    before, consumers, outputs = len(subgraph.operators or ()), model.consumers(subgraph), indices(subgraph.outputs)
    producers = model.producers(subgraph)
    for op in list(subgraph.operators or ()):
        target = int(op.inputs[1]) if model.op_name(op) == "RESHAPE" and len(indices(op.inputs)) == 2 else -1
        if target not in producers or target in outputs or not all(model.op_name(reader) == "RESHAPE" and number == 1 for reader, number in consumers[target]):
            continue
        numbers = _numbers(model, subgraph, producers, target)
        values = [-1 if number is None else number for number in numbers or [0]]
        # With a 0 among them anything could be left.
        if min(values) < -1 or 0 in values or values.count(-1) != 1 or numbers.count(None) != 1 or (len(values),) != shape(subgraph.tensors[target]):
            continue
        model.schema.buffers.append(schema.BufferT(np.frombuffer(np.array(values, np.int32).tobytes(), np.uint8)))
        subgraph.tensors[target].buffer = len(model.schema.buffers) - 1
        _remove(model, subgraph, producers.pop(target))
    return before - len(subgraph.operators or ())


def _numbers(model: Model, subgraph: schema.SubGraphT, producers: dict[int, schema.OperatorT], index: int, depth: int = _DEPTH) -> _Numbers | None:
    """What is known of an int32 scalar or vector; None where not even its length is."""
    tensor = subgraph.tensors[index]
    if index < 0 or tensor.type != schema.TensorType.INT32 or len(shape(tensor)) > 1:
        return None
    if model.is_constant(tensor):
        return model.values(tensor).reshape(-1).tolist() if model.has_data(tensor) else None
    op, found = producers.get(index), None
    if op and depth and model.op_name(op) == "SHAPE" and min(indices(op.inputs), default=-1) >= 0:
        found = _of_shape(subgraph.tensors[int(op.inputs[0])])
    elif op and depth and model.op_name(op) in _COMPUTED:
        compute, num_inputs = _COMPUTED[model.op_name(op)]
        inputs = [_numbers(model, subgraph, producers, number, depth - 1) for number in indices(op.inputs)]
        found = compute(op.builtinOptions, *inputs) if None not in inputs and len(inputs) == (num_inputs or len(inputs)) else None
    return found or [None] * math.prod(shape(tensor))


def _of_shape(x: schema.TensorT) -> _Numbers | None:
    """Axes that the model leaves open are not known, nor is the first one: whoever runs the model may choose another batch."""
    sizes = shape(x) if x.shapeSignature is None else indices(x.shapeSignature)
    return [None if axis == 0 or size < 1 else int(size) for axis, size in enumerate(sizes)] if len(sizes) == len(shape(x)) else None


def _gather(options, x: _Numbers, chosen: _Numbers) -> _Numbers | None:
    good = isinstance(options, schema.GatherOptionsT) and not options.batchDims and all(number is not None and 0 <= number < len(x) for number in chosen)
    return [x[number] for number in chosen] if good else None


def _slice(options, x: _Numbers, begin: _Numbers, end: _Numbers, strides: _Numbers) -> _Numbers | None:
    if not isinstance(options, schema.StridedSliceOptionsT) or options.ellipsisMask or options.newAxisMask or options.offset:
        return None
    if None in (*begin, *end) or strides != [1] or len(begin) != 1 or len(end) != 1:
        return None
    first = 0 if options.beginMask else begin[0]
    if options.shrinkAxisMask:
        return [x[first]] if -len(x) <= first < len(x) else None
    return x[first : None if options.endMask else end[0]]


def _product(options, x: _Numbers, axes: _Numbers) -> _Numbers:
    return [None if None in x else math.prod(x)]


def _join(options, *parts: _Numbers) -> _Numbers:
    return [number for part in parts for number in part]


# The operators that compute shapes from shapes, and how many inputs they have. What they do to scalars and vectors has one axis, 0.
_COMPUTED = {"GATHER": (_gather, 2), "STRIDED_SLICE": (_slice, 4), "REDUCE_PROD": (_product, 2), "CONCATENATION": (_join, None), "PACK": (_join, None)}


def _remove(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT) -> None:
    """Removes the operator, and before it what served nobody else: also a RESHAPE of which only the shape was asked. The tensors stay, so that no index changes."""
    del subgraph.operators[position(subgraph, op)]
    needed = set(model.consumers(subgraph)) | set(indices(subgraph.outputs))
    for other in list(subgraph.operators):
        served = set(indices(other.outputs))
        if served & set(indices(op.inputs)) and not served & needed and model.op_name(other) in ("SHAPE", "RESHAPE", *_COMPUTED):
            _remove(model, subgraph, other)
