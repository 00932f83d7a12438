"""Leaves out of a model's tables what says nothing: in a small packed model they would weigh as much as a tenth of the weights.

The TFLite converter names a fused tensor after everything that was fused into it (`relu/Relu;bn/add_1;conv/convolution;bn/sub`), and gives every tensor a
quantization table, empty ones included.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model


def drop_ballast(model: Model) -> None:
    """Cuts names behind the first of their parts and removes empty quantization tables. What callers may look for by name, the inputs and outputs of graphs, keeps it."""
    for subgraph in model.schema.subgraphs:
        named = {int(index) for indices in (subgraph.inputs, subgraph.outputs) for index in (() if indices is None else indices)}
        for index, tensor in enumerate(subgraph.tensors):
            if index not in named and isinstance(tensor.name, bytes):
                tensor.name = tensor.name.split(b";")[0]
            if tensor.quantization is not None and _is_empty(tensor.quantization):
                tensor.quantization = None


def _is_empty(quantization: schema.QuantizationParametersT) -> bool:
    vectors = (quantization.scale, quantization.zeroPoint, quantization.min, quantization.max)
    return quantization.details is None and not quantization.quantizedDimension and not any(np.size(vector) for vector in vectors if vector is not None)
