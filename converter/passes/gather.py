"""GATHER of rows and EMBEDDING_LOOKUP with a float32 table -> TFLiteSmart.Gather, which decodes only the tiles that hold the rows."""

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model, shape
from tflite_smart.converter.passes.base import Edit, Encoding, Site, input_tensor, replace

AXIS = 0
_INDEX_TYPES = (schema.TensorType.INT32, schema.TensorType.INT64)


def matches(site: Site) -> bool:
    """Whether our kernel computes this operator. What it does not goes through Expand."""
    options, table = site.op.builtinOptions, site.weight
    rows = not isinstance(options, schema.GatherOptionsT) or (options.axis in (0, -len(shape(table))) and options.batchDims == 0)
    indices = input_tensor(site, 1 - site.number)
    output = site.subgraph.tensors[int(site.op.outputs[0])]
    # The kernel learns the shape of a row from the output's.
    rows = rows and shape(output)[len(shape(indices)) :] == shape(table)[1:]
    return rows and len(shape(table)) >= 2 and table.type == output.type == schema.TensorType.FLOAT32 and indices.type in _INDEX_TYPES


def apply(model: Model, site: Site, encoding: Encoding) -> Edit:
    """Edits the operator. Inputs: packed table, indices."""
    return replace(model, site, encoding, "Gather", [site.tensor, int(site.op.inputs[1 - site.number])], {})


def restore(builtin_code: int, row_shape: tuple[int, ...], num_channels: int) -> tuple[tuple[int, ...], int, object]:
    """Shape of the table, type number and options of the builtin operator."""
    if builtin_code == schema.BuiltinOperator.GATHER:
        return (num_channels, *row_shape), schema.BuiltinOptions.GatherOptions, schema.GatherOptionsT()
    return (num_channels, *row_shape), schema.BuiltinOptions.NONE, None
