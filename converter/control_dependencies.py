"""The metadata entry in which the TFLite converter keeps the order of operators with side effects, as operator numbers.

Inserting operators changes those numbers. Format (LiteRT, `converter/experimental/remat/metadata_util.cc`): varints; a version, then for each subgraph
a list of pairs of zigzag-coded operator numbers.
"""

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.errors import UnsupportedModelError
from tflite_smart.converter.model_editor import Model

ENTRY = "model_control_dependencies"
_VERSION = 1
Edges = list[list[tuple[int, int]]]


def operator_order(model: Model) -> list[list[schema.OperatorT]]:
    """The operators of every subgraph, to be compared with after the edits."""
    return [list(subgraph.operators or ()) for subgraph in model.schema.subgraphs]


def renumber(model: Model, before: list[list[schema.OperatorT]]) -> None:
    """Rewrites the entry, if there is one, for the operators' present order. Operators that are gone had no side effects; their pairs go too."""
    data = model.metadata(ENTRY)
    if data is None:
        return
    edges = []
    for pairs, old, subgraph in zip(parse(data), before, model.schema.subgraphs):
        number = {id(op): index for index, op in enumerate(subgraph.operators or ())}
        renamed = [(number.get(id(old[a])), number.get(id(old[b]))) for a, b in pairs]
        edges.append([pair for pair in renamed if None not in pair])
    model.set_metadata(ENTRY, serialize(edges))


def parse(data: bytes) -> Edges:
    """Raises UnsupportedModelError for another version or damaged bytes."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed() -> int:
        value = varint()
        return -(value // 2) - 1 if value % 2 else value // 2

    try:
        if varint() != _VERSION:
            raise IndexError
        return [[(signed(), signed()) for _ in range(varint())] for _ in range(varint())]
    except IndexError:
        raise UnsupportedModelError(f"metadata {ENTRY}: must be version {_VERSION} and whole. Received: {data[:8]!r}. Convert the model with another version of TensorFlow.") from None


def serialize(edges: Edges) -> bytes:
    """Inverse of `parse`."""
    out = bytearray()

    def varint(value: int) -> None:
        while value >= 128:
            out.append(value % 128 + 128)
            value //= 128
        out.append(value)

    varint(_VERSION)
    varint(len(edges))
    for pairs in edges:
        varint(len(pairs))
        for number in (number for pair in pairs for number in pair):
            varint(-(number + 1) * 2 + 1 if number < 0 else number * 2)
    return bytes(out)
