"""Puts TFLiteSmart.Expand in front of an operator: it fills an arena tensor with the weight just before the operator reads it.

One Expand for every operator that reads the weight, not one for all of them: the expanded tensor then lives only from one operator to the next, and the arena
reuses its place for the next layer's. The packed weight is stored once however many there are.
"""

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import NO_BUFFER, Model
from tflite_smart.converter.passes.base import OP_PREFIX, Edit, Encoding, Site, custom_options, described

OP = OP_PREFIX + "Expand"
OUTPUT_NAME = "expanded"  # of all: the weight that is read has its own


def apply(model: Model, site: Site, encoding: Encoding, weight: schema.TensorT) -> Edit:
    """Inserts the operator. Inputs: packed weight, trigger.

    Args:
        weight: the tensor as the operator saw it before anything was packed; the output gets its type, shape and quantization.
    """
    name = model.op_name(site.op)
    expanded = copy.copy(weight)
    expanded.buffer, expanded.name = NO_BUFFER, OUTPUT_NAME.encode()
    output = model.add_tensor(site.subgraph, expanded)
    # The trigger makes the operator depend on the activations, or the runtime would run all Expands of the model first and keep their outputs at once.
    inputs = [site.tensor] + ([site.trigger] if site.trigger >= 0 else [])
    attributes = {"axis": encoding.axis, **described(model, site.op)}
    op = schema.OperatorT(
        opcodeIndex=model.custom_code(OP), inputs=np.array(inputs, np.int32), outputs=np.array([output], np.int32), customOptions=custom_options(attributes)
    )
    site.op.inputs = np.array(site.op.inputs)
    site.op.inputs[site.number] = output
    site.subgraph.operators.insert(position(site.subgraph, site.op), op)
    return Edit(name, f"{OP} + {name}", site.op, (op,))


def position(subgraph: schema.SubGraphT, op: schema.OperatorT) -> int:
    return next(index for index, other in enumerate(subgraph.operators) if other is op)
