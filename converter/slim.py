"""Leaves out of a model's tables what says nothing: in a small packed model they would weigh as much as a fifth of the weights.

The TFLite converter names every tensor, a fused one after everything that was fused into it (`relu/Relu;bn/add_1;conv/convolution;bn/sub`), and gives each a quantization table
and a buffer, empty ones included. Kept are the names that somebody may look for: those of inputs, outputs and variables, and of constants that are more than a bias or a shape.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import NO_BUFFER, Model, indices, shape

# Vectors of up to so many bytes (biases, shapes, scales) go by the operator that reads them.
_NAMELESS_BYTES = 1024


def drop_ballast(model: Model) -> None:
    """Cuts names behind the first of their parts, or drops them; removes empty quantization tables, and signatures and ranks that the shape tells as well. Doing it twice is doing it once."""
    for subgraph in model.schema.subgraphs:
        ends = set(indices(subgraph.inputs)) | set(indices(subgraph.outputs))
        for index, tensor in enumerate(subgraph.tensors):
            if index not in ends and isinstance(tensor.name, bytes):
                tensor.name = tensor.name.split(b";")[0] if _is_looked_for(model, tensor) else None
            if tensor.quantization is not None and _is_empty(tensor.quantization):
                tensor.quantization = None
            if shape(tensor):
                tensor.hasRank = False  # it only tells a scalar from a tensor of unknown rank
            if indices(tensor.shapeSignature) == indices(tensor.shape):
                tensor.shapeSignature = None


def drop_unused(model: Model, tensors: list[tuple[schema.SubGraphT, int]]) -> None:
    """Drops those of these tensors, `(subgraph, index)`, that nothing refers to any more. The others keep their order."""
    for number, subgraph in enumerate(model.schema.subgraphs):
        given = {index for owner, index in tensors if owner is subgraph}
        mappings = [mapping for signature in model.schema.signatureDefs or () if signature.subgraphIndex == number for mapping in (*(signature.inputs or ()), *(signature.outputs or ()))]
        vectors = [(subgraph, field) for field in ("inputs", "outputs")]
        vectors += [(op, field) for op in subgraph.operators or () for field in ("inputs", "outputs", "intermediates")]
        used = {index for owner, field in vectors for index in indices(getattr(owner, field))} | {mapping.tensorIndex for mapping in mappings}
        kept = [index for index in range(len(subgraph.tensors)) if index in used or index not in given]
        numbers = {-1: -1, **{old: new for new, old in enumerate(kept)}}
        for owner, field in vectors:
            if getattr(owner, field) is not None:
                setattr(owner, field, np.array([numbers[index] for index in indices(getattr(owner, field))], np.int32))
        for mapping in mappings:
            mapping.tensorIndex = numbers[mapping.tensorIndex]
        subgraph.tensors = [subgraph.tensors[index] for index in kept]


def share_empty_buffers(model: Model) -> dict[int, int]:
    """Gives all tensors without bytes the one empty buffer, and drops those that nothing refers to any more. Returns the new number of each that stays."""
    tree = model.schema
    tensors = [tensor for subgraph in tree.subgraphs for tensor in subgraph.tensors]
    for tensor in tensors if model.buffer_bytes(NO_BUFFER) == 0 else ():
        if not model.has_data(tensor):
            tensor.buffer = NO_BUFFER
    used = sorted({NO_BUFFER, *model.buffers_outside_graph(), *(tensor.buffer for tensor in tensors)})
    numbers = {old: new for new, old in enumerate(used)}
    for owner in (*tensors, *(tree.metadata or ())):
        owner.buffer = numbers[owner.buffer]
    if tree.metadataBuffer is not None:
        tree.metadataBuffer = np.array([numbers[index] for index in indices(tree.metadataBuffer)], np.int32)
    tree.buffers = [tree.buffers[old] for old in used]
    model.outside = {numbers[index] for index in model.outside if index in numbers}
    return numbers


def name_nameless(model: Model) -> None:
    """Gives tensors without a name one that no other has, for tools that tell tensors by their names."""
    for subgraph in model.schema.subgraphs:
        taken = {tensor.name for tensor in subgraph.tensors}
        for index, tensor in enumerate(subgraph.tensors):
            if not tensor.name:
                name = f"tensor_{index}".encode()
                tensor.name = name if name not in taken else f"tensor_{index}_{len(taken)}".encode()


def _is_looked_for(model: Model, tensor: schema.TensorT) -> bool:
    constant = model.is_constant(tensor) and (len(shape(tensor)) > 1 or model.buffer_bytes(tensor.buffer) > _NAMELESS_BYTES)
    return constant or tensor.isVariable


def _is_empty(quantization: schema.QuantizationParametersT) -> bool:
    vectors = (quantization.scale, quantization.zeroPoint, quantization.min, quantization.max)
    return quantization.details is None and not quantization.quantizedDimension and not any(np.size(vector) for vector in vectors if vector is not None)
