"""CONV_2D, float32 or int8, -> TFLiteSmart.Conv2D."""

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, shape
from tflite_smart.converter.passes.base import ACTIVATIONS, PADDING, Edit, Encoding, Site, compute_option, computes, packed_inputs, rare_options, replace, restore_rare_options

AXIS = 0
_RARE = {"quantized_bias_type": "quantizedBiasType"}


def matches(site: Site) -> bool:
    """Whether our kernel computes this operator. What it does not goes through Expand."""
    return isinstance(site.op.builtinOptions, schema.Conv2DOptionsT) and matches_spatial(site)


def matches_spatial(site: Site) -> bool:
    options = site.op.builtinOptions
    plain = options.fusedActivationFunction in ACTIVATIONS and options.padding in PADDING
    return plain and site.number == 1 and len(shape(site.weight)) == 4 and computes(site)


def apply(model: Model, site: Site, encoding: Encoding) -> Edit:
    """Edits the operator."""
    _, height, width, _ = shape(site.weight)
    inputs = packed_inputs(model, site)
    attributes = {**spatial_attributes(site.op.builtinOptions), "filter_h": height, "filter_w": width, **compute_option(site, encoding)}
    return replace(model, site, encoding, "Conv2D", inputs, attributes)


def spatial_attributes(options: schema.Conv2DOptionsT | schema.DepthwiseConv2DOptionsT) -> dict:
    return {
        "stride_h": options.strideH,
        "stride_w": options.strideW,
        "dilation_h": options.dilationHFactor,
        "dilation_w": options.dilationWFactor,
        "padding": PADDING[options.padding],
        "activation": ACTIVATIONS[options.fusedActivationFunction],
        **rare_options(options, _RARE),
    }


def restore(attributes: dict, num_channels: int, channel_elements: int) -> tuple[tuple[int, ...], int, object]:
    """Shape of the filter, type number and options of the builtin operator."""
    height, width = attributes["filter_h"], attributes["filter_w"]
    filter_shape = (num_channels, height, width, channel_elements // (height * width))
    return filter_shape, schema.BuiltinOptions.Conv2DOptions, restore_spatial(schema.Conv2DOptionsT(), attributes)


def restore_spatial(options, attributes: dict):
    options.strideH, options.strideW = attributes["stride_h"], attributes["stride_w"]
    options.dilationHFactor, options.dilationWFactor = attributes["dilation_h"], attributes["dilation_w"]
    options.padding = getattr(schema.Padding, attributes["padding"])
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, attributes["activation"])
    restore_rare_options(options, attributes, _RARE)
    return options
