"""Finds the weights of a model: which constants can be packed, who uses them, and why the others can't.

The unit is the **buffer**, not the tensor: tensors, of one subgraph or several, may share one. It can be packed only if every reader of it can take the packed
form; otherwise the original would have to stay as well and the file would grow.
"""

import dataclasses
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.allocate import WeightInfo
from tflite_smart.converter.model_editor import NUMPY_TYPES, Model, indices, shape, tensor_name, type_name
from tflite_smart.converter.passes import FUSED
from tflite_smart.converter.passes.base import Site
from tflite_smart.converter.passes.weight_inputs import refusal, weight_axis

_PACKABLE = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.INT8)
# Smaller constants that are no weights (shapes, axes, biases) are not worth a line in the report.
_REPORTED_BYTES = 1024
# Last parts of the names of TensorFlow's operators that have weights, with their running numbers cut off.
_WEIGHT_OPS = ("Conv", "Conv2D", "convolution", "separable_conv2d", "depthwise", "MatMul", "Tensordot", "conv2d_transpose", "embedding_lookup", "GatherV2", "Einsum")


@dataclasses.dataclass(eq=False)
class Weight:
    """A constant that can be packed.

    Attributes:
        buffer: its index in the model.
        tensors: `(subgraph, tensor index)` of all tensors that share it.
        sites: all its uses.
        info: what the allocation needs to know.
        stored: the constant as the file holds it; a view.
        layer: readable name for reports.
    """

    buffer: int
    tensors: list[tuple[schema.SubGraphT, int]]
    sites: list[Site]
    info: WeightInfo
    stored: np.ndarray
    layer: str

    def values(self) -> np.ndarray:
        """float32 or int8; a view where the file holds that type."""
        return self.stored if self.stored.dtype == np.int8 else self.stored.astype(np.float32, copy=False)

    @property
    def multiplications(self) -> int:
        """In one run of the model, with 1 for dimensions that the file leaves open."""
        per_output = self.info.num_elements // self.info.shape[self.info.axis]
        return sum(per_output * math.prod(shape(site.subgraph.tensors[int(site.op.outputs[0])])) for site in self.sites)


@dataclasses.dataclass(frozen=True)
class LeftAlone:
    """A constant that stays as it is, and why."""

    name: str
    layer: str
    op_type: str
    shape: tuple[int, ...]
    dtype: str
    stored_bytes: int
    reason: str


class _No(Exception):
    """Carries the reason why a constant can't be packed."""


def find_weights(model: Model) -> tuple[list[Weight], list[LeftAlone]]:
    """All constants of the model that can be packed, in the order of their first use, and those large enough to mention that can't."""
    graphs = [_Graph(model, subgraph) for subgraph in model.schema.subgraphs]
    held = model.buffers_outside_graph()
    owners: dict[int, list[tuple[_Graph, int]]] = {}
    for graph in graphs:
        for index, tensor in enumerate(graph.subgraph.tensors):
            if model.has_data(tensor):
                owners.setdefault(tensor.buffer, []).append((graph, index))
    weights, left_alone = [], []
    for buffer, tensors in owners.items():
        try:
            if buffer in held:
                raise _No("its bytes are also metadata")
            weights.append(_weight(model, buffer, tensors))
        except _No as reason:
            if model.buffer_bytes(buffer) >= _REPORTED_BYTES and len(shape(_first(tensors))) > 1:
                left_alone.append(_left_alone(model, tensors, str(reason)))
    order = {id(op): number for number, op in enumerate(op for graph in graphs for op in graph.subgraph.operators or ())}
    return sorted(weights, key=lambda weight: order[id(weight.sites[0].op)]), left_alone


class _Graph:
    """A subgraph with the look-ups that the search needs."""

    def __init__(self, model: Model, subgraph: schema.SubGraphT):
        self.model, self.subgraph = model, subgraph
        self.consumers = model.consumers(subgraph)
        self.outputs, self.inputs = set(indices(subgraph.outputs)), set(indices(subgraph.inputs))
        # DEQUANTIZE of a constant is a constant too: no activation, so no trigger.
        self.constants = {index for index, tensor in enumerate(subgraph.tensors) if model.is_constant(tensor)}
        for op in subgraph.operators or ():
            if model.op_name(op) == "DEQUANTIZE" and int(op.inputs[0]) in self.constants:
                self.constants.add(int(op.outputs[0]))

    def trigger(self, op: schema.OperatorT) -> int:
        """An activation that the operator reads, or -1."""
        for index in indices(op.inputs):
            if index >= 0 and index not in self.constants and not self.subgraph.tensors[index].isVariable:
                return index
        return -1

    def sites(self, index: int, through: schema.OperatorT | None = None, constant: int | None = None) -> list[Site]:
        """All uses of a constant; of a float16 one, the uses of what DEQUANTIZE makes of it."""
        constant = index if constant is None else constant
        tensor = self.subgraph.tensors[index]
        self._check_tensor(index, tensor)
        sites = []
        for op, number in self.consumers.get(index, ()):
            name = self.model.op_name(op)
            if name == "DEQUANTIZE" and tensor.type == schema.TensorType.FLOAT16:
                if shape(self.subgraph.tensors[int(op.outputs[0])]) != shape(tensor):
                    raise _No("DEQUANTIZE gives it another shape")
                sites += self.sites(int(op.outputs[0]), op, constant)
                continue
            if tensor.type == schema.TensorType.FLOAT16:
                raise _No(f"float16, and {name} reads it without DEQUANTIZE")
            axis = weight_axis(self.model, op, number, len(shape(tensor)))
            if axis is None:
                raise _No(f"{name} reads it as input {number}, which is no weight")
            reason = refusal(self.model, self.subgraph, op)
            if reason:
                raise _No(reason)
            sites.append(Site(self.subgraph, op, number, constant, axis, through, self.trigger(op)))
        return sites

    def _check_tensor(self, index: int, tensor: schema.TensorT) -> None:
        if index in self.outputs:
            raise _No("it is an output of the model" if self.subgraph is self.model.schema.subgraphs[0] else "it is an output of a subgraph")
        if index in self.inputs:
            raise _No("it is an input of the graph")
        if tensor.isVariable:
            raise _No("it is a variable")
        if tensor.sparsity is not None:
            raise _No("it is stored in TFLite's sparse form")
        if tensor.type not in _PACKABLE:
            raise _No(f"{type_name(tensor.type)} is not packed; float32, float16 and int8 are")


def _weight(model: Model, buffer: int, tensors: list[tuple[_Graph, int]]) -> Weight:
    sites = [site for graph, index in tensors for site in graph.sites(index)]
    if not sites:
        raise _No("nothing reads it")
    tensor = _first(tensors)
    axis = _common_axis(model, sites)
    views = {(graph.subgraph.tensors[index].type, _matrix(shape(graph.subgraph.tensors[index]), axis)) for graph, index in tensors}
    if len(views) > 1:
        raise _No("tensors of different types or shapes share its bytes")
    names = [tensor_name(tensor)] + [_output_name(site) for site in sites]
    dtype = "int8" if tensor.type == schema.TensorType.INT8 else "float32"
    info = WeightInfo(tuple(dict.fromkeys(names)), model.op_name(sites[0].op), shape(tensor), axis, dtype, all(_one_row(model, site) for site in sites))
    members = [(graph.subgraph, index) for graph, index in tensors]
    return Weight(buffer, members, sites, info, model.values(tensor), layer_name(names[0]))


def _first(tensors: list[tuple[_Graph, int]]) -> schema.TensorT:
    graph, index = tensors[0]
    return graph.subgraph.tensors[index]


def _common_axis(model: Model, sites: list[Site]) -> int:
    """One packed weight has one channel axis. The fused kernels need theirs; Expand takes any."""
    fused = [site.axis for site in sites if is_fused(model, site)]
    return fused[0] if fused else sites[0].axis


def _one_row(model: Model, site: Site) -> bool:
    """Whether the operator is a dense layer of a single row. A batch that is left open counts as 1; an input whose columns the file does not know can have any number of rows."""
    x = shape(site.subgraph.tensors[int(site.op.inputs[0])])
    return model.op_name(site.op) == "FULLY_CONNECTED" and math.prod(x) == shape(site.weight)[-1]


def is_fused(model: Model, site: Site) -> bool:
    """Whether one of our kernels computes the operator from the packed weight."""
    kernel = FUSED.get(model.op_name(site.op))
    return kernel is not None and site.axis == kernel.AXIS and kernel.matches(site)


def is_in_integers(site: Site) -> bool:
    """Whether the operator multiplies integers by these: one of a full-integer model."""
    return site.number == 1 and site.subgraph.tensors[int(site.op.inputs[0])].type == schema.TensorType.INT8


def _matrix(dimensions: tuple[int, ...], axis: int) -> tuple:
    """Tensors of different shapes can share a packed weight if they are the same matrix in the same order."""
    if axis >= len(dimensions):
        return dimensions
    return dimensions[axis], math.prod(dimensions[axis + 1 :]), math.prod(dimensions[:axis])


def _output_name(site: Site) -> str:
    return tensor_name(site.subgraph.tensors[int(site.op.outputs[0])])


def layer_name(name: str) -> str:
    """Path of the Keras layer behind a tensor's name, which lists all TensorFlow operators that went into it: `a/conv/Conv2D;a/bn/add` is `a/conv`."""
    parts = [part for part in name.split(";") if part]
    chosen = next((part for part in parts if part.split("/")[-1].rstrip("_0123456789") in _WEIGHT_OPS), parts[0] if parts else "")
    path, _, last = chosen.rpartition("/")
    return path if path and last.rstrip("_0123456789") in _WEIGHT_OPS else chosen


def _left_alone(model: Model, tensors: list[tuple[_Graph, int]], reason: str) -> LeftAlone:
    graph, index = tensors[0]
    tensor = _first(tensors)
    readers = graph.consumers.get(index, ())
    layer = layer_name(tensor_name(tensor))
    op_type = model.op_name(readers[0][0]) if readers else ""
    dtype = NUMPY_TYPES[tensor.type].name if tensor.type in NUMPY_TYPES else type_name(tensor.type)
    return LeftAlone(tensor_name(tensor), layer, op_type, shape(tensor), dtype, model.buffer_bytes(tensor.buffer), reason)


__all__ = ["LeftAlone", "Weight", "find_weights", "is_fused", "layer_name"]
