"""FULLY_CONNECTED, float32 or int8, -> TFLiteSmart.FullyConnected."""

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, shape
from tflite_smart.converter.passes.base import ACTIVATIONS, Edit, Encoding, Site, compute_option, computes, packed_inputs, rare_options, replace, restore_rare_options

AXIS = 0
_RARE = {"quantized_bias_type": "quantizedBiasType", "asymmetric_quantize_inputs": "asymmetricQuantizeInputs"}


def matches(site: Site) -> bool:
    """Whether our kernel computes this operator. What it does not goes through Expand."""
    options = site.op.builtinOptions
    plain = isinstance(options, schema.FullyConnectedOptionsT) and options.fusedActivationFunction in ACTIVATIONS and len(site.op.outputs) == 1
    return plain and site.number == 1 and len(shape(site.weight)) == 2 and computes(site)


def apply(model: Model, site: Site, encoding: Encoding) -> Edit:
    """Edits the operator."""
    options = site.op.builtinOptions
    inputs = packed_inputs(model, site)
    attributes = {
        "activation": ACTIVATIONS[options.fusedActivationFunction],
        "keep_num_dims": int(options.keepNumDims),
        **compute_option(site, encoding),
        **rare_options(options, _RARE),
    }
    return replace(model, site, encoding, "FullyConnected", inputs, attributes)


def restore(attributes: dict, num_channels: int, channel_elements: int) -> tuple[tuple[int, ...], int, object]:
    """Shape of the weights, type number and options of the builtin operator."""
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, attributes["activation"])
    options.keepNumDims = bool(attributes["keep_num_dims"])
    restore_rare_options(options, attributes, _RARE)
    return (num_channels, channel_elements), schema.BuiltinOptions.FullyConnectedOptions, options
