"""Small .tflite models around the TFLiteSmart ops, built by hand, for the tests of the delegate.

They do not go through the converter, so that a test of the delegate can ask for what no converter would write.
"""

import dataclasses

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from tflite_smart.converter.codecs import CODECS, smartdeal
from tflite_smart.converter.compress import TensorSettings, choose_codec
from tflite_smart.converter.format import PackedWeight, Quantized, tile_count, tile_order

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}


def random_basis(rng, shape, group_size=3, group_stride=1, slice_groups=None) -> smartdeal.Basis:
    """Bases for a weight of `shape` `(N, K)`; None makes one slice of each channel."""
    slice_groups = slice_groups or smartdeal.num_groups(shape[1], group_size)
    slices = smartdeal.num_slices(shape[1], group_size, slice_groups)
    return smartdeal.Basis(group_size, group_stride, slice_groups, rng.integers(-128, 128, (slices, group_size, group_size, shape[0])).astype(np.int8))


def pack(quantized: Quantized, inner, codec="raw", panels_per_tile=1) -> PackedWeight:
    """A packed weight with exactly the codec and tiles asked for."""
    ids = np.ascontiguousarray(quantized.ids, np.int8)
    _, parameters, _ = choose_codec(ids, TensorSettings(codecs=(codec,)))
    tiles = [
        CODECS[codec].encode_tile(tile_order(ids, tile, panels_per_tile), parameters)
        for tile in range(tile_count(len(ids), panels_per_tile))
    ]
    return PackedWeight(codec, quantized.value_kind, parameters, *ids.shape, inner, panels_per_tile, quantized.scales, quantized.codebook, tiles, quantized.basis)


def random_weight(rng, shape, axis, *, value_kind="uniform", codec="rans", panels_per_tile=1, grouping=(3,)) -> PackedWeight:
    """Gaussian ids with a few outliers for the escapes, and scales of a sensible size. grouping: of `random_basis`, for `smartdeal`."""
    n, k = shape[axis], int(np.prod(shape)) // shape[axis]
    ids = np.clip(np.round(rng.normal(0, 5, (n, k))), -128, 127)
    ids[rng.random((n, k)) < 0.01] = rng.choice([-128, -60, 60, 127])
    scales = None if value_kind == "integer" else rng.uniform(0.01, 0.03, n).astype(np.float32)
    codebook = rng.normal(0, 5, 256).astype(np.float32) if value_kind == "codebook" else None
    basis = random_basis(rng, (n, k), *grouping) if value_kind == "smartdeal" else None
    inner = int(np.prod(shape[axis + 1 :]))
    return pack(Quantized(ids, value_kind, scales, codebook, basis), inner, codec, panels_per_tile)


@dataclasses.dataclass
class ModelBuilder:
    """Collects tensors and operators of one subgraph.

    Example:
        model = ModelBuilder()
        x = model.tensor("x", (1, 4, 4, 8))
        y = model.tensor("y", (1, 4, 4, 8))
        model.builtin("RELU", [x], [y])
        content = model.build([x], [y])
    """

    def __post_init__(self):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.name = b"main"
        self.graph.tensors = []
        self.graph.operators = []
        self.model.subgraphs = [self.graph]

    def tensor(self, name, shape, dtype="float32", data=None, dynamic=False) -> int:
        """Adds a tensor and returns its index. `data` makes it a constant; `dynamic` leaves the first dimension open."""
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = list(shape)
        tensor.type = _TYPES[dtype]
        tensor.buffer = 0
        if dynamic:
            tensor.shapeSignature = [-1, *shape[1:]]
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(bytes(data), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def quantize(self, tensor, scales, zero_point=0, axis=0) -> None:
        """Gives a tensor its quantization: one scale, or one for each channel along `axis`."""
        parameters = schema.QuantizationParametersT()
        parameters.scale = np.atleast_1d(np.asarray(scales, np.float32))
        parameters.zeroPoint = np.full(len(parameters.scale), zero_point, np.int64)
        parameters.quantizedDimension = axis if len(parameters.scale) > 1 else 0
        self.graph.tensors[tensor].quantization = parameters

    def constant(self, name, values) -> int:
        return self.tensor(name, values.shape, values.dtype.name, np.ascontiguousarray(values).tobytes())

    def packed(self, name, blob) -> int:
        """The constant that holds a packed weight: a PackedWeight or its bytes."""
        blob = blob if isinstance(blob, bytes) else blob.to_bytes()
        return self.tensor(name, (len(blob),), "uint8", blob)

    def custom(self, name, inputs, outputs, options, version=1) -> None:
        """Adds a custom op; `options` is a dict, or bytes that stand for it as they are."""
        code = schema.OperatorCodeT()
        code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = name.encode()
        code.version = version
        content = options if isinstance(options, bytes) else bytes(flexbuffers.Dumps(options))
        operator = self._operator(code, inputs, outputs)
        operator.customOptions = np.frombuffer(content, np.uint8)

    def builtin(self, name, inputs, outputs, options=None) -> None:
        """Adds a builtin op by its name in the schema; `options` is the schema's ...OptionsT."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        operator = self._operator(code, inputs, outputs)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])

    def build(self, inputs, outputs) -> bytes:
        self.graph.inputs = list(inputs)
        self.graph.outputs = list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _operator(self, code, inputs, outputs):
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        operator.inputs = list(inputs)
        operator.outputs = list(outputs)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)
        return operator


CONV_OPTIONS = {
    "stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "padding": "SAME", "activation": "NONE",
    "codec": "rans", "bits_per_weight": 5.25, "builtin_code": 3, "builtin_version": 1,
}  # fmt: skip


def conv_model(x_shape, weight, filter_shape, *, bias=None, depth_multiplier=None, dynamic=False, **options) -> bytes:
    """One (depthwise) convolution. filter_shape: (h, w, channels per group); the output's shape is left to the delegate."""
    model = ModelBuilder()
    x = model.tensor("x", x_shape, dynamic=dynamic)
    y = model.tensor("y", (1, 1, 1, weight.num_channels), dynamic=dynamic)
    inputs = [x, model.packed("filter", weight), -1 if bias is None else model.constant("bias", bias)]
    options = {**CONV_OPTIONS, "filter_h": filter_shape[0], "filter_w": filter_shape[1], **options}
    if depth_multiplier is None:
        model.custom("TFLiteSmart.Conv2D", inputs, [y], {**options, "filter_in": filter_shape[2]})
    else:
        model.custom("TFLiteSmart.DepthwiseConv2D", inputs, [y], {**options, "depth_multiplier": depth_multiplier})
    return model.build([x], [y])


def fully_connected_model(x_shape, weight, *, bias=None, keep_num_dims=0, activation="NONE", dynamic=False, **options) -> bytes:
    model = ModelBuilder()
    x = model.tensor("x", x_shape, dynamic=dynamic)
    y_shape = (*x_shape[:-1], weight.num_channels) if keep_num_dims else (1, weight.num_channels)
    y = model.tensor("y", y_shape, dynamic=dynamic)
    inputs = [x, model.packed("weights", weight), -1 if bias is None else model.constant("bias", bias)]
    model.custom("TFLiteSmart.FullyConnected", inputs, [y], {"activation": activation, "keep_num_dims": keep_num_dims, **options})
    return model.build([x], [y])


def expand_model(weight, shape, axis) -> bytes:
    """Expand, triggered by the model's input, which comes back as the second output."""
    dtype = "int8" if weight.value_kind == "integer" else "float32"
    model = ModelBuilder()
    x = model.tensor("x", (1, 4))
    y = model.tensor("y", shape, dtype)
    relu = model.tensor("relu", (1, 4))
    model.custom("TFLiteSmart.Expand", [model.packed("weights", weight), x], [y], {"axis": axis})
    model.builtin("RELU", [x], [relu])
    return model.build([x], [y, relu])


def gather_model(weight, row_shape, indices_shape, dtype="int32") -> bytes:
    model = ModelBuilder()
    indices = model.tensor("indices", indices_shape, dtype, dynamic=True)
    y = model.tensor("y", (*indices_shape, *row_shape), dynamic=True)
    model.custom("TFLiteSmart.Gather", [model.packed("table", weight), indices], [y], {"axis": 0})
    return model.build([indices], [y])


def two_layers_model(rng) -> bytes:
    """Two convolutions of different shape and options, a builtin op between them that stays with the runtime: nothing may mix up the nodes."""
    model = ModelBuilder()
    shapes = [(1, 6, 7, 5), (1, 6, 7, 40), (1, 6, 7, 40), (1, 3, 4, 33)]
    x, hidden, between, y = (model.tensor(name, shape) for name, shape in zip(("x", "hidden", "between", "y"), shapes))
    first = {**CONV_OPTIONS, "filter_h": 3, "filter_w": 3, "filter_in": 5}
    second = {**CONV_OPTIONS, "filter_h": 1, "filter_w": 1, "filter_in": 40, "stride_h": 2, "stride_w": 2, "activation": "RELU6"}
    bias = model.constant("bias", rng.normal(size=40).astype(np.float32))
    model.custom("TFLiteSmart.Conv2D", [x, model.packed("a", random_weight(rng, (40, 3, 3, 5), 0)), bias], [hidden], first)
    model.builtin("ABS", [hidden], [between])
    model.custom("TFLiteSmart.Conv2D", [between, model.packed("b", random_weight(rng, (33, 1, 1, 40), 0)), -1], [y], second)
    return model.build([x], [y])
