"""What all graph edits share: where a weight is used, what replaces it, and how an operator of ours is written."""

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from tflite_smart.converter.errors import ModelFormatError
from tflite_smart.converter.model_editor import DAMAGE, Model

OP_PREFIX = "TFLiteSmart."
SCALES_NAME = "scales"  # of the constant with the scales of an int8 weight
# What an option means that is not there: the value that it nearly always has.
USUAL = {
    "activation": "NONE", "builtin_version": 1, "depth_multiplier": 1, "dilation_h": 1, "dilation_w": 1, "filter_h": 1, "filter_w": 1, "keep_num_dims": 0, "padding": "SAME",
    "stride_h": 1, "stride_w": 1,
}  # fmt: skip
# What an operator was, unless its option `builtin_code` says another.
_USUALLY = {
    "Conv2D": schema.BuiltinOperator.CONV_2D, "DepthwiseConv2D": schema.BuiltinOperator.DEPTHWISE_CONV_2D, "FullyConnected": schema.BuiltinOperator.FULLY_CONNECTED,
    "Gather": schema.BuiltinOperator.GATHER,
}  # fmt: skip
TEXTS = ("activation", "compute", "padding")  # the options that are no numbers
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
    """What every operator of ours says of its weight. Nothing that differs from one operator to the next: equal options are stored once.

    `compute` is what operators that multiply say of their arithmetic, see `recipe.WeightConfig`. `relative_error` is that of the packed weight, which tells how fine its biases must be; None
    leaves biases as they are.
    """

    axis: int
    compute: str | None = None
    relative_error: float | None = None


@dataclasses.dataclass(frozen=True)
class Edit:
    """What a pass changed: `before` and `after` name operators, `added` are the operators now in front of `op`."""

    before: str
    after: str
    op: schema.OperatorT
    added: tuple[schema.OperatorT, ...] = ()


def custom_options(attributes: dict[str, int | str]) -> np.ndarray:
    """A FlexBuffer map of what is not as usual; its keys are sorted, so the bytes depend on nothing else."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in sorted(attributes.items()):
            if USUAL.get(key) != value:
                builder.Key(key)
                builder.Add(value)
    return np.frombuffer(bytes(builder.Finish()), np.uint8)


def read_options(op: schema.OperatorT) -> dict[str, int | str]:
    """Inverse of `custom_options`, with what is as usual. Raises ModelFormatError: the options are not what it writes."""
    try:
        attributes = flexbuffers.Loads(b"" if op.customOptions is None else bytes(op.customOptions))
        good = all(isinstance(value, str) if key in TEXTS else isinstance(value, int) and abs(value) < 1 << 31 for key, value in attributes.items())
    except DAMAGE as error:
        good, attributes = False, type(error).__name__
    if not good:
        raise ModelFormatError(f"operator options: they must be a map of texts and 32-bit integers. Received: {str(attributes)[:80]}. The model is damaged; convert the original again.")
    return {**USUAL, **attributes}


def replace(model: Model, site: Site, encoding: Encoding, name: str, inputs: list[int], attributes: dict) -> Edit:
    """Turns the operator into a custom one in place, so that its position and its outputs stay."""
    op, before = site.op, model.op_name(site.op)
    attributes = {**attributes, **described(model, op)}
    if attributes["builtin_code"] == _USUALLY[name]:
        del attributes["builtin_code"]
    op.opcodeIndex = model.custom_code(OP_PREFIX + name)
    op.inputs = np.array(inputs, np.int32)
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.NONE, None
    op.customOptions = custom_options(attributes)
    op.customOptionsFormat = schema.CustomOptionsFormat.FLEXBUFFERS
    return Edit(before, OP_PREFIX + name, op)


def was(name: str, attributes: dict) -> int:
    """Builtin code of what an operator of ours, without its prefix, once was."""
    return attributes.get("builtin_code", _USUALLY[name])


def described(model: Model, op: schema.OperatorT) -> dict:
    """What the operator was. Nothing of its weight, which says that itself."""
    return {"builtin_code": model.op_number(op), "builtin_version": model.op_version(op)}


def input_tensor(site: Site, number: int) -> schema.TensorT | None:
    """An input of the operator, or None where it has none."""
    index = int(site.op.inputs[number]) if number < len(site.op.inputs) else -1
    return site.subgraph.tensors[index] if index >= 0 else None


def all_float(site: Site, numbers: tuple[int, ...]) -> bool:
    """Whether the output and the inputs of these numbers, where present, are float32."""
    tensors = [site.subgraph.tensors[int(site.op.outputs[0])], *(input_tensor(site, number) for number in numbers)]
    return all(tensor is None or tensor.type == schema.TensorType.FLOAT32 for tensor in tensors)


def computes(site: Site) -> bool:
    """Whether the inputs, types and quantizations are those of our multiplying kernels: all float32; or int8 weights, symmetric, per tensor or per output channel, with
    int8 activations of static scales or float ones (a dynamic-range model)."""
    if len(site.op.inputs) > 3:
        return False
    if all_float(site, (0, 1, 2)):
        return True
    x, y, bias, weight = input_tensor(site, 0), site.subgraph.tensors[int(site.op.outputs[0])], input_tensor(site, 2), site.weight
    if weight.type != schema.TensorType.INT8 or not _num_scales(weight) or np.any(weight.quantization.zeroPoint):
        return False
    if _num_scales(weight) > 1 and (weight.quantization.quantizedDimension, _num_scales(weight)) != (site.axis, int(weight.shape[site.axis])):
        return False
    static = all(tensor.type == schema.TensorType.INT8 and _num_scales(tensor) == 1 for tensor in (x, y))
    return all_float(site, (0, 2)) or static and (bias is None or bias.type == schema.TensorType.INT32)


def _num_scales(tensor: schema.TensorT) -> int:
    """How many scales a plain affine quantization has; 0 without one."""
    q = tensor.quantization
    return 0 if q is None or q.details is not None or q.scale is None or q.zeroPoint is None or len(q.scale) != len(q.zeroPoint) else len(q.scale)


def packed_inputs(model: Model, site: Site) -> list[int]:
    """The inputs of a multiplying operator of ours: x, packed weight, bias or -1; for int8 also a constant with the scales of the weight's quantization, which
    the packed weight's own tensor, a vector of bytes, can't have."""
    inputs = [int(site.op.inputs[0]), site.tensor, optional_input(site, 2)]
    if site.weight.type == schema.TensorType.INT8:
        scales = np.array(site.weight.quantization.scale, np.float32)
        inputs.append(model.add_constant(site.subgraph, SCALES_NAME, scales))
    return inputs


def compute_option(site: Site, encoding: Encoding) -> dict:
    """The arithmetic that an operator with float activations asks the delegate for: what the recipe says, else int8 where the weights are int8, as LiteRT's own
    kernels for such operators quantize the activations too."""
    hybrid = site.weight.type == schema.TensorType.INT8 and all_float(site, (0,))
    compute = encoding.compute or ("int8" if hybrid else None)
    return {"compute": compute} if compute and all_float(site, (0,)) else {}


def rare_options(options, names: dict[str, str]) -> dict:
    """Options that our kernels do not need and `expand` must not lose: those of `names`, key to the schema's name, that are not at their default."""
    return {key: int(getattr(options, name)) for key, name in names.items() if getattr(options, name, 0)}


def restore_rare_options(options, attributes: dict, names: dict[str, str]) -> None:
    for key, name in names.items():
        if key in attributes:
            setattr(options, name, type(getattr(options, name))(attributes[key]))


def optional_input(site: Site, number: int) -> int:
    return int(site.op.inputs[number]) if number < len(site.op.inputs) else -1
