"""An ADD of a constant behind a dense layer of ours and a RESHAPE -> the bias of that layer.

Layers with several heads (Keras' MultiHeadAttention, EinsumDense) are a product, a RESHAPE of its columns to heads, and a bias of the heads' shape.
"""

import math

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, indices, shape
from tflite_smart.converter.passes.base import OP_PREFIX, read_options
from tflite_smart.converter.passes.expand import position

_BIAS = 2


def apply(model: Model, subgraph: schema.SubGraphT) -> int:
    """Moves such constants, which must have one number per channel, and removes the ADDs; returns how many."""
    producers = model.producers(subgraph)
    consumers, outputs, found = model.consumers(subgraph), indices(subgraph.outputs), 0
    for op in list(subgraph.operators or ()):
        if model.op_name(op) != "ADD" or len(indices(op.inputs)) != 2 or getattr(op.builtinOptions, "fusedActivationFunction", None) != schema.ActivationFunctionType.NONE:
            continue
        heads, bias = sorted(indices(op.inputs), key=lambda index: model.is_constant(subgraph.tensors[index]))
        turned = producers.get(heads)
        if turned is None or model.op_name(turned) != "RESHAPE" or len(indices(turned.inputs)) != 2 or min(indices(turned.inputs)) < 0:
            continue
        product, target = indices(turned.inputs)
        dense = producers.get(product)
        if dense is None or not _takes_bias(model, dense) or any(len(consumers[index]) > 1 or index in outputs for index in (heads, product)):
            continue
        if _is_per_channel(model, *(subgraph.tensors[index] for index in (product, target, bias))):
            dense.inputs[_BIAS] = model.add_constant(subgraph, "bias", model.values(subgraph.tensors[bias]).reshape(-1))
            turned.outputs = op.outputs
            del subgraph.operators[position(subgraph, op)]
            found += 1
    return found


def _takes_bias(model: Model, op: schema.OperatorT) -> bool:
    if model.op_name(op) != OP_PREFIX + "FullyConnected" or len(indices(op.inputs)) <= _BIAS or int(op.inputs[_BIAS]) >= 0:
        return False
    return read_options(op)["activation"] == "NONE"


def _is_per_channel(model: Model, product: schema.TensorT, target: schema.TensorT, bias: schema.TensorT) -> bool:
    """Whether the RESHAPE only divides the product's columns, and into the shape of the bias."""
    if not model.has_data(target) or not model.has_data(bias) or any(tensor.type != schema.TensorType.FLOAT32 for tensor in (product, bias)):
        return False
    sizes, heads = model.values(target).reshape(-1).tolist(), shape(bias)
    return 0 < len(heads) < len(sizes) and tuple(sizes[-len(heads) :]) == heads and shape(product)[-1:] == (math.prod(heads),)
