"""DEPTHWISE_CONV_2D, float32 or int8, -> TFLiteSmart.DepthwiseConv2D."""

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, shape
from tflite_smart.converter.passes import conv2d
from tflite_smart.converter.passes.base import Edit, Encoding, Site, input_tensor, packed_inputs, replace

AXIS = 3


def matches(site: Site) -> bool:
    """Whether our kernel computes this operator. What it does not goes through Expand."""
    return isinstance(site.op.builtinOptions, schema.DepthwiseConv2DOptionsT) and conv2d.matches_spatial(site)


def apply(model: Model, site: Site, encoding: Encoding) -> Edit:
    """Edits the operator."""
    _, height, width, channels = shape(site.weight)
    inputs = packed_inputs(model, site)
    attributes = {
        **conv2d.spatial_attributes(site.op.builtinOptions),
        "depth_multiplier": _depth_multiplier(site, channels),
        "filter_h": height,
        "filter_w": width,
    }
    return replace(model, site, encoding, "DepthwiseConv2D", inputs, attributes)


def _depth_multiplier(site: Site, channels: int) -> int:
    # The runtime goes by the shapes and ignores the option, which old converters wrote wrongly.
    x = shape(input_tensor(site, 0))
    if len(x) == 4 and x[3] > 0 and channels % x[3] == 0:
        return channels // x[3]
    return site.op.builtinOptions.depthMultiplier


def restore(attributes: dict, num_channels: int) -> tuple[tuple[int, ...], int, object]:
    """Shape of the filter, type number and options of the builtin operator."""
    options = conv2d.restore_spatial(schema.DepthwiseConv2DOptionsT(), attributes)
    options.depthMultiplier = attributes["depth_multiplier"]
    return (1, attributes["filter_h"], attributes["filter_w"], num_channels), schema.BuiltinOptions.DepthwiseConv2DOptions, options
