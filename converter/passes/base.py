"""What all graph edits share: where a weight is used, what replaces it, and how an operator of ours is written."""

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from tflite_smart.converter.model_editor import Model

OP_PREFIX = "TFLiteSmart."
PADDING = {schema.Padding.SAME: "SAME", schema.Padding.VALID: "VALID"}
# The activations that LiteRT's own convolution kernels know, and ours.
ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: "NONE", schema.ActivationFunctionType.RELU: "RELU",
    schema.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1", schema.ActivationFunctionType.RELU6: "RELU6",
}  # fmt: skip


@dataclasses.dataclass(eq=False)
class Site:
    """One use of a constant as a weight.

    Attributes:
        subgraph, op, number: the operator and the number of its input.
        tensor: index of the constant.
        axis: its channel axis.
        dequantize: the operator between a float16 constant and `op`, or None.
        trigger: index of an activation that `op` reads, or -1.
    """

    subgraph: schema.SubGraphT
    op: schema.OperatorT
    number: int
    tensor: int
    axis: int
    dequantize: schema.OperatorT | None
    trigger: int

    @property
    def weight(self) -> schema.TensorT:
        """The tensor that the operator sees: the constant, or what DEQUANTIZE makes of it."""
        return self.subgraph.tensors[int(self.op.inputs[self.number])]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What every operator of ours says of its weight. Nothing that differs from one operator to the next: equal options are stored once."""

    codec: str
    axis: int


@dataclasses.dataclass(frozen=True)
class Edit:
    """What a pass changed: `before` and `after` name operators, `added` are the operators now in front of `op`."""

    before: str
    after: str
    op: schema.OperatorT
    added: tuple[schema.OperatorT, ...] = ()


def custom_options(attributes: dict[str, int | float | str]) -> np.ndarray:
    """A FlexBuffer map; its keys are sorted, so the bytes depend on nothing else."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in sorted(attributes.items()):
            builder.Key(key)
            builder.Add(value)
    return np.frombuffer(bytes(builder.Finish()), np.uint8)


def read_options(op: schema.OperatorT) -> dict[str, int | float | str]:
    """Inverse of `custom_options`."""
    return flexbuffers.Loads(bytes(op.customOptions))


def replace(model: Model, site: Site, encoding: Encoding, name: str, inputs: list[int], attributes: dict) -> Edit:
    """Turns the operator into a custom one in place, so that its position and its outputs stay."""
    op, before = site.op, model.op_name(site.op)
    attributes = {**attributes, **described(model, op, encoding)}
    op.opcodeIndex = model.custom_code(OP_PREFIX + name)
    op.inputs = np.array(inputs, np.int32)
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.NONE, None
    op.customOptions = custom_options(attributes)
    op.customOptionsFormat = schema.CustomOptionsFormat.FLEXBUFFERS
    return Edit(before, OP_PREFIX + name, op)


def described(model: Model, op: schema.OperatorT, encoding: Encoding) -> dict:
    return {
        "codec": encoding.codec,
        "builtin_code": model.op_number(op),
        "builtin_version": model.op_version(op),
    }


def input_tensor(site: Site, number: int) -> schema.TensorT | None:
    """An input of the operator, or None where it has none."""
    index = int(site.op.inputs[number]) if number < len(site.op.inputs) else -1
    return site.subgraph.tensors[index] if index >= 0 else None


def all_float(site: Site, numbers: tuple[int, ...]) -> bool:
    """Whether the output and the inputs of these numbers, where present, are float32."""
    tensors = [site.subgraph.tensors[int(site.op.outputs[0])], *(input_tensor(site, number) for number in numbers)]
    return all(tensor is None or tensor.type == schema.TensorType.FLOAT32 for tensor in tensors)


def optional_input(site: Site, number: int) -> int:
    return int(site.op.inputs[number]) if number < len(site.op.inputs) else -1
