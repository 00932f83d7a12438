"""A smart .tflite back to a plain one: weights decoded, builtin operators restored. For a device that can't load the delegate.

The weights are those that the smart model computes with, so both give the same results up to the order of float additions; the original's bits are gone.
"""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter import check, control_dependencies, slim
from tflite_smart.converter.errors import ModelFormatError, TFLiteSmartError, UnsupportedModelError
from tflite_smart.converter.format import PackedWeight
from tflite_smart.converter.model_editor import DAMAGE, Model, indices, shape, tensor_name
from tflite_smart.converter.passes import conv2d, depthwise_conv2d, expand as expand_pass, fully_connected, gather, integer_bias, packed_bias
from tflite_smart.converter.passes.base import OP_PREFIX, SCALES_NAME, read_options, was
from tflite_smart.converter.rewrite import METADATA_ENTRY, is_smart

_PLAIN_TYPES = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8}


def expand(model: str | os.PathLike | bytes, output: str | os.PathLike, overwrite: bool = False) -> int:
    """Writes the plain model; returns its size in bytes.

    Raises:
        UnsupportedModelError: the model has no operator of ours, or an unknown one.
        TFLiteSmartError: damaged input, or an output that exists.
    """
    plain = Model.read(model)
    expand_model(plain)
    return plain.write(output, overwrite)


def expand_model(model: Model) -> None:
    """Restores the builtin operators in place."""
    if not is_smart(model):
        raise UnsupportedModelError("model: must have TFLiteSmart operators. Received: none. It is plain already.")
    before, decode, done = control_dependencies.operator_order(model), check.decoder(), {}
    for subgraph in model.schema.subgraphs:
        for op in list(subgraph.operators or ()):
            name = model.op_name(op)
            if name.startswith(OP_PREFIX):
                with _whole(name):
                    (_remove_expand if name == expand_pass.OP else _restore)(model, subgraph, op, decode, done)
    model.set_metadata(METADATA_ENTRY, None)
    for subgraph in reversed(model.schema.subgraphs):
        _check_all_plain(subgraph, done)
        _drop_added(model, subgraph)
    control_dependencies.renumber(model, before)
    model.drop_unused_codes()
    slim.name_nameless(model)


@contextlib.contextmanager
def _whole(name: str) -> Iterator[None]:
    """Whatever following a damaged operator's inputs, options and shapes leads to, told as what it is."""
    try:
        yield
    except TFLiteSmartError:
        raise
    except DAMAGE as error:
        raise ModelFormatError(f"{name}: operator must be as `convert` wrote it. Received: a damaged one ({type(error).__name__}: {error}). Convert the original again.") from error


def _restore(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT, decode, done: dict) -> None:
    """One of our kernels' operators back to the builtin one."""
    name, attributes = model.op_name(op).removeprefix(OP_PREFIX), read_options(op)
    packed = subgraph.tensors[int(op.inputs[0 if name == "Gather" else 1])]
    header = _header(model, packed, done)
    inputs = indices(op.inputs)
    if name == "Conv2D":
        (plain_shape, kind, options), axis = conv2d.restore(attributes, header.num_channels, header.channel_elements), conv2d.AXIS
    elif name == "DepthwiseConv2D":
        (plain_shape, kind, options), axis = depthwise_conv2d.restore(attributes, header.num_channels), depthwise_conv2d.AXIS
    elif name == "FullyConnected":
        (plain_shape, kind, options), axis = fully_connected.restore(attributes, header.num_channels, header.channel_elements), fully_connected.AXIS
    elif name == "Gather":
        row = shape(subgraph.tensors[int(op.outputs[0])])[len(shape(subgraph.tensors[inputs[1]])) :]
        (plain_shape, kind, options), axis = gather.restore(was(name, attributes), row, header.num_channels), gather.AXIS
        inputs = inputs if was(name, attributes) == schema.BuiltinOperator.GATHER else inputs[::-1]
    else:
        raise UnsupportedModelError(f"{OP_PREFIX}{name}: operator must be known to this version. Received: an unknown one. Update tflite_smart.")
    if name != "Gather" and len(inputs) > 3 and inputs[2] >= 0:
        integer_bias.restore(model, subgraph, op)
    if name != "Gather" and len(inputs) > 3:
        _restore_scales(model, subgraph, packed, inputs.pop())
    if name != "Gather" and header.bias is not None:
        inputs[2:] = [packed_bias.restore(model, subgraph, header.bias)]
    if name in ("Conv2D", "DepthwiseConv2D") and inputs[2:] == [-1]:
        inputs.pop()  # the builtin convolutions have two inputs or three, never an absent one
    _fill(model, packed, plain_shape, axis, decode, done)
    op.opcodeIndex = model.builtin_code(was(name, attributes), attributes["builtin_version"])
    op.inputs, op.builtinOptionsType, op.builtinOptions = np.array(inputs, np.int32), kind, options
    op.customOptions = None


def _restore_scales(model: Model, subgraph: schema.SubGraphT, packed: schema.TensorT, scales: int) -> None:
    values = model.values(subgraph.tensors[scales])
    if values.dtype != np.float32 or values.ndim != 1:
        raise ModelFormatError(f"{tensor_name(packed)}: scales must be a vector of float32. Received: {values.dtype}, shape={values.shape}. The model is damaged; convert it again.")
    packed.quantization = packed.quantization or schema.QuantizationParametersT()
    packed.quantization.scale = values.copy()
    packed.quantization.zeroPoint = np.zeros(len(packed.quantization.scale), np.int64)


def _remove_expand(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT, decode, done: dict) -> None:
    """The operators that read the expanded tensor read the constant itself again. The expanded tensor is dropped later."""
    packed, expanded = int(op.inputs[0]), int(op.outputs[0])
    pattern, tensor = subgraph.tensors[expanded], subgraph.tensors[packed]
    _fill(model, tensor, shape(pattern), read_options(op)["axis"], decode, done)
    tensor.quantization = pattern.quantization
    for other in subgraph.operators:
        if expanded in indices(other.inputs):
            other.inputs = np.array([packed if index == expanded else index for index in indices(other.inputs)], np.int32)
    del subgraph.operators[expand_pass.position(subgraph, op)]


def _header(model: Model, tensor: schema.TensorT, done: dict) -> PackedWeight:
    """The header of a packed weight; it is remembered, as the buffer may have been filled for another operator before."""
    if tensor.buffer not in done:
        done[tensor.buffer] = PackedWeight.from_bytes(bytes(model.schema.buffers[tensor.buffer].data)), None
    return done[tensor.buffer][0]


def _fill(model: Model, tensor: schema.TensorT, plain_shape: tuple[int, ...], axis: int, decode, done: dict) -> None:
    header = _header(model, tensor, done)
    if header.num_channels * header.channel_elements != int(np.prod(plain_shape, dtype=np.int64)):
        raise ModelFormatError(
            f"{tensor_name(tensor)}: shape must hold {header.num_channels} x {header.channel_elements} weights. Received: shape={plain_shape}. The model is damaged; convert it again."
        )
    if done[tensor.buffer][1] is None:
        values = decode(model.schema.buffers[tensor.buffer].data, plain_shape, axis)
        model.schema.buffers[tensor.buffer].data = values.reshape(-1).view(np.uint8)
        done[tensor.buffer] = header, _PLAIN_TYPES[values.dtype.name]
    tensor.type, tensor.shape = done[tensor.buffer][1], np.array(plain_shape, np.int32)


def _check_all_plain(subgraph: schema.SubGraphT, done: dict) -> None:
    """A tensor that shares a filled buffer but that no operator of ours reads any more: a copy left by another tool."""
    for tensor in subgraph.tensors:
        if tensor.buffer in done and tensor.type == schema.TensorType.UINT8:
            raise UnsupportedModelError(f"{tensor_name(tensor)}: packed weight must be read by a TFLiteSmart operator. Received: none that does. Convert the original again.")


def _drop_added(model: Model, subgraph: schema.SubGraphT) -> None:
    """The tensors that the passes appended are the last ones; taking them away again renumbers nothing."""
    used = {index for op in subgraph.operators or () for vector in (op.inputs, op.outputs, op.intermediates) for index in indices(vector)}
    used |= set(indices(subgraph.inputs)) | set(indices(subgraph.outputs))
    while len(subgraph.tensors) - 1 not in used and tensor_name(subgraph.tensors[-1]) in (expand_pass.OUTPUT_NAME, SCALES_NAME):
        model.drop_last_tensor(subgraph)
