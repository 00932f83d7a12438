"""Full-integer models whose weights were trained with fewer than 8 bits.

TFLite's converter knows 8 bits alone: it stretches the ids `-7 .. 7` of a 4-bit weight to `-127 .. 127`, where most fall between two integers, so that the model computes with other weights than
those that were trained, and their few values no longer show. Here the tensors get the trained ids back, with a scale to match. Biases are counted in units of that scale, so they
are rounded to it.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter import buckets
from tflite_smart.converter.format import from_matrix, to_matrix
from tflite_smart.converter.model_editor import Model, indices, shape

_WEIGHT_AND_BIAS = {"CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1, 2), "TRANSPOSE_CONV": (1, 3)}
_STRETCHED = 127


def restore(model: Model, weights: list[np.ndarray]) -> int:
    """Puts trained ids back into the int8 weights of a model, in place.

    Args:
        model: as TFLite's converter wrote it, with int8 weights per channel.
        weights: trained float32 weights, each as the matrix of FORMAT.md, 1. A tensor is recognised by its values: folding and fusing only changed the scale of its channels, perhaps the sign.

    Returns:
        How many tensors were changed.
    """
    grids = [ids for ids in map(_ids, weights) if ids is not None]
    changed = 0
    for subgraph in model.schema.subgraphs:
        ratios: dict[int, np.ndarray] = {}
        biases = set()
        for op in subgraph.operators or ():
            inputs = indices(op.inputs)
            weight, bias = _WEIGHT_AND_BIAS.get(model.op_name(op), (None, None))
            if weight is None:
                continue
            if inputs[weight] not in ratios and (ratio := _restore_tensor(model, subgraph.tensors[inputs[weight]], grids)) is not None:
                ratios[inputs[weight]] = ratio
                changed += 1
            if inputs[weight] in ratios and len(inputs) > bias and inputs[bias] >= 0 and inputs[bias] not in biases:
                biases.add(inputs[bias])
                _rescale_bias(model, subgraph.tensors[inputs[bias]], ratios[inputs[weight]])
    return changed


def _ids(weight: np.ndarray) -> np.ndarray | None:
    steps = buckets.grid_steps(weight)
    return None if steps is None else buckets.to_buckets(weight, steps).astype(np.int16)


def _restore_tensor(model: Model, tensor: schema.TensorT, grids: list[np.ndarray]) -> np.ndarray | None:
    """New scale over old scale per channel, or None where the tensor is none of the trained ones."""
    if tensor.type != schema.TensorType.INT8 or not model.has_data(tensor) or tensor.quantization is None:
        return None
    axis = tensor.quantization.quantizedDimension
    matrix = to_matrix(model.values(tensor), axis).astype(np.int16)
    if len(tensor.quantization.scale) != len(matrix):
        return None
    for ids in grids:
        if ids.shape != matrix.shape:
            continue
        largest = np.maximum(np.abs(ids).max(axis=1, keepdims=True), 1)
        stretched = ids * (_STRETCHED / largest)
        sign = np.where(np.einsum("nk,nk->n", stretched, matrix) < 0, -1, 1)[:, None]
        if np.abs(sign * stretched - matrix).max() < 1:
            model.set_buffer(tensor.buffer, np.ascontiguousarray(from_matrix((sign * ids).astype(np.int8), shape(tensor), axis)))
            ratio = (_STRETCHED / largest[:, 0]).astype(np.float32)
            tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) * ratio
            return ratio
    return None


def _rescale_bias(model: Model, tensor: schema.TensorT, ratio: np.ndarray) -> None:
    if tensor.type == schema.TensorType.INT32 and model.has_data(tensor):
        model.set_buffer(tensor.buffer, np.rint(model.values(tensor) / ratio).astype(np.int32))
        tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) * ratio
