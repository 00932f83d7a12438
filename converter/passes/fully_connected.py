"""FULLY_CONNECTED with float32 weights -> TFLiteSmart.FullyConnected."""

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, shape
from tflite_smart.converter.passes.base import ACTIVATIONS, Edit, Encoding, Site, all_float, optional_input, replace

AXIS = 0


def matches(site: Site) -> bool:
    """Whether our kernel computes this operator. What it does not goes through Expand."""
    options = site.op.builtinOptions
    plain = options is not None and options.fusedActivationFunction in ACTIVATIONS and len(site.op.outputs) == 1
    return plain and site.number == 1 and all_float(site, (0, 1, 2)) and len(shape(site.weight)) == 2


def apply(model: Model, site: Site, encoding: Encoding) -> Edit:
    """Edits the operator. Inputs: x, packed weight, bias or -1."""
    options = site.op.builtinOptions
    inputs = [int(site.op.inputs[0]), site.tensor, optional_input(site, 2)]
    attributes = {"activation": ACTIVATIONS[options.fusedActivationFunction], "keep_num_dims": int(options.keepNumDims)}
    return replace(model, site, encoding, "FullyConnected", inputs, attributes)


def restore(attributes: dict, num_channels: int, channel_elements: int) -> tuple[tuple[int, ...], int, object]:
    """Shape of the weights, type number and options of the builtin operator."""
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, attributes["activation"])
    options.keepNumDims = bool(attributes["keep_num_dims"])
    return (num_channels, channel_elements), schema.BuiltinOptions.FullyConnectedOptions, options
