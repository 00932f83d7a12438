"""Removes the DEQUANTIZE of a packed float16 weight: the packed weight already expands to float32."""

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.passes.expand import position


def apply(subgraph: schema.SubGraphT, op: schema.OperatorT) -> bool:
    """Removes the operator unless something reads its output still. Its output tensor stays behind, without bytes: removing it would
    renumber all tensors, and the metadata of other tools may hold such numbers."""
    output = int(op.outputs[0])
    read = any(output in other.inputs for other in subgraph.operators) or output in (subgraph.outputs if subgraph.outputs is not None else ())
    if not read:
        del subgraph.operators[position(subgraph, op)]
    return not read
