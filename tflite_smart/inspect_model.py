"""Lists what a .tflite stores: one row per constant tensor that is compressed, or could be."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
import functools
import math

import numpy as np

from tflite_smart.energy import read_energy_uj
from tflite_smart.converter.format import MAGIC, PackedWeight
from tflite_smart.converter.model_editor import NUMPY_TYPES, Model, indices, shape, tensor_name, type_name
from tflite_smart.converter.passes.base import OP_PREFIX
from tflite_smart.converter.rewrite import is_smart
from tflite_smart.converter.selection import find_weights
from tflite_smart.energy import read_energy_uj

# Plain constants up to this size (biases, shapes, scalars) are not worth a line.
_MAX_HIDDEN_BYTES = 1024


@dataclass(frozen=True)
class TensorRow:
    """One constant. `plain_bytes` is what it takes, or would take, without compression.

    `plain_energy_uj` and `stored_energy_uj` estimate what reading it once from memory takes, see `energy`.
    `note` says of a plain constant whether it can be compressed, or why not.
    `shape` of a packed weight is (output channels, weights of each), as FORMAT.md sees it; `codec` is None for a plain constant.
    `output` is empty where what the operator writes has no name: packed models keep those of their inputs, outputs and weights.
    """

    tensor: str
    op: str
    output: str
    shape: tuple[int, ...]
    type: str
    codec: str | None
    value_kind: str | None
    bits_per_weight: float
    plain_bytes: int
    stored_bytes: int
    note: str
    plain_energy_uj: float = 0.0
    stored_energy_uj: float = 0.0

    def to_dict(self) -> dict:
        return asdict(self)


def inspect_model(path: str) -> list[TensorRow]:
    """Returns the rows in the order of the operators; a buffer that several operators share is listed once.

    Raises: ModelFormatError: not a whole .tflite. PackedWeightError: a packed weight is damaged.
    """
    return [row for row, _ in inspect_values(path)]


def inspect_values(path: str) -> Iterator[tuple[TensorRow, Callable[[], np.ndarray | None]]]:
    """Yields every row of `inspect_model` with a function that gives the tensor's values: packed ones decoded, integers as they are stored, None for types
    without numbers. Raises: as `inspect_model`."""
    model = Model.read(path)
    weights, left_alone = find_weights(model)
    notes = {entry.name: entry.reason for entry in left_alone}
    # `convert --json` says of each why it was left; the file itself does not keep that.
    notes |= {weight.info.names[0]: "can be compressed" if not is_smart(model) else "left by the recipe, or would not shrink" for weight in weights}
    seen = set()
    for subgraph in model.schema.subgraphs:
        for op in subgraph.operators or ():
            for index in indices(op.inputs):
                tensor = subgraph.tensors[index] if index >= 0 else None
                if tensor is not None and tensor.buffer not in seen and _worth_a_line(model, op, tensor):
                    seen.add(tensor.buffer)
                    yield _row(model, subgraph, op, tensor, notes), functools.partial(_values, model, op, tensor)


def _values(model: Model, op, tensor) -> np.ndarray | None:
    if _is_packed(model, op, tensor):
        return PackedWeight.from_bytes(bytes(model.schema.buffers[tensor.buffer].data)).expand()
    return model.values(tensor) if tensor.type in NUMPY_TYPES else None


def _is_packed(model: Model, op, tensor) -> bool:
    data = model.schema.buffers[tensor.buffer].data
    return model.op_name(op).startswith(OP_PREFIX) and data is not None and bytes(data[:4]) == MAGIC


def _worth_a_line(model: Model, op, tensor) -> bool:
    return _is_packed(model, op, tensor) or model.buffer_bytes(tensor.buffer) > _MAX_HIDDEN_BYTES


def _row(model: Model, subgraph, op, tensor, notes: dict[str, str]) -> TensorRow:
    name = model.op_name(op)
    outputs = indices(op.outputs)
    stored = model.buffer_bytes(tensor.buffer)
    common = {"tensor": tensor_name(tensor), "op": name, "stored_bytes": stored,
              "output": tensor_name(subgraph.tensors[outputs[0]]) if outputs else ""}
    if _is_packed(model, op, tensor):
        return _packed_row(PackedWeight.from_bytes(bytes(model.schema.buffers[tensor.buffer].data)), common)
    elements = math.prod(shape(tensor))
    dtype = NUMPY_TYPES.get(tensor.type)
    energy = read_energy_uj(stored)
    return TensorRow(**common, shape=shape(tensor), type=type_name(tensor.type), codec=None, value_kind=None,
                     bits_per_weight=8 * stored / max(elements, 1), plain_bytes=elements * dtype.itemsize if dtype else stored,
                     note=notes.get(common["tensor"], "not a weight"), plain_energy_uj=energy, stored_energy_uj=energy)


def _packed_row(packed: PackedWeight, common: dict) -> TensorRow:
    elements = packed.num_channels * packed.channel_elements
    item_bytes = 1 if packed.value_kind == "integer" else 4
    energy = read_energy_uj(common["stored_bytes"], elements, packed.codec, packed.value_kind, packed.basis.group_size if packed.basis else 0)
    return TensorRow(**common, shape=(packed.num_channels, packed.channel_elements), type="int8" if item_bytes == 1 else "float32",
                     codec=packed.codec, value_kind=packed.value_kind,
                     bits_per_weight=8 * common["stored_bytes"] / elements, plain_bytes=elements * item_bytes, note="",
                     plain_energy_uj=read_energy_uj(elements * item_bytes), stored_energy_uj=energy)
