"""What a .tflite of a newer schema holds that ours has no name for: found, carried through, or refused by name. Never lost in silence.

A flatbuffer table says how many fields its writer knew, but not their types. A field of 1, 2 or 8 bytes is a plain value. One of 4 bytes is either a value or
an offset to something. It is an offset if it leads to a whole table or string in bytes that no known table owns, and a value if it can't be an
offset at all (misaligned, outside the file, or into a known table). Anything else (a vector, whose elements could be anything) is refused.

The generated `Pack` methods know nothing of this, so the writer's builder adds the fields between their `StartObject` and `EndObject`.
"""

import contextlib
import dataclasses
import struct

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.errors import UnsupportedModelError

_MAX_DEPTH = 8


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: `value` is its bytes, or a string or table that it refers to."""

    slot: int
    value: "bytes | Text | Table"


@dataclasses.dataclass(frozen=True)
class Text:
    data: bytes

    def pack(self, builder) -> int:
        return builder.CreateString(self.data)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of which only the bytes are known."""

    fields: tuple[Field, ...]

    def pack(self, builder) -> int:
        children = _pack_children(self.fields, builder)
        builder.StartObject(_num_slots(self.fields))
        _add_fields(self.fields, children, builder)
        return builder.EndObject()

    Pack = pack  # stands in for the options of an operator, where the generated code calls it


@dataclasses.dataclass(frozen=True)
class Unknown:
    """The unknown fields of one known table: `owner` is its object in the tree."""

    owner: object
    fields: tuple[Field, ...]


def find(reader: schema.Model, tree: schema.ModelT) -> list[Unknown]:
    """Compares every table of the file with what the schema knows of it.

    Unions of an unknown type are replaced in the tree by a `Table`.
    Raises: UnsupportedModelError: for a field that can't be carried over.
    """
    pairs = list(_walk(reader, tree))
    data = reader._tab.Bytes
    owned = _Owned(data, [table._tab.Pos for table, _ in pairs])
    found = []
    for table, owner in pairs:
        name = type(owner).__name__[:-1]
        fields = _fields(data, table._tab.Pos, _known_slots(name), owned, name)
        if fields:
            found.append(Unknown(owner, fields))
        _adopt_unions(table, owner, owned)
    return found


@contextlib.contextmanager
def attached(unknown: list[Unknown], builder):
    """While open, packing one of the owners also packs its unknown fields."""
    for entry in unknown:
        entry.owner.Pack = _PackWith(entry)
    try:
        yield builder
    finally:
        for entry in unknown:
            del entry.owner.Pack


class PendingFields:
    """The builder's side: which `StartObject` is the one to extend."""

    def __init__(self):
        self.countdown: list[list] = []  # [number of StartObject calls left, fields, children]
        self.open: list[tuple | None] = []
        self.started = 0

    def start_object(self, num_slots: int) -> int:
        self.started += 1
        due = None
        for entry in self.countdown:
            entry[0] -= 1
            if entry[0] == 0:
                due = entry
        if due is None:
            self.open.append(None)
            return num_slots
        self.countdown.remove(due)
        self.open.append((due[1], due[2]))
        return max(num_slots, _num_slots(due[1]))

    def end_object(self, builder) -> None:
        pending = self.open.pop()
        if pending:
            _add_fields(*pending, builder)


class _PackWith:
    def __init__(self, entry: Unknown):
        self.entry = entry

    def __call__(self, builder) -> int:
        owner, fields = self.entry.owner, self.entry.fields
        pack = type(owner).Pack
        # Children are packed first, each between its own StartObject and EndObject; the owner's is the last one. A rehearsal counts them.
        rehearsal = type(builder)(builder.placed)
        pack(owner, rehearsal)
        children = _pack_children(fields, builder)
        builder.extra_fields.countdown.append([rehearsal.extra_fields.started, fields, children])
        return pack(owner, builder)


class _Owned:
    """Byte ranges of the known tables and their vtables."""

    def __init__(self, data, positions: list[int]):
        self.data = data
        self.bytes = set()
        for position in positions:
            vtable, vtable_size, size = _table_at(data, position)
            self.bytes.update(range(position, position + size, 4))
            self.bytes.update(range(vtable & ~3, vtable + vtable_size, 4))

    def __contains__(self, position: int) -> bool:
        return position & ~3 in self.bytes


def _walk(reader, owner):
    """Yields (reader, object) of every table of the tree."""
    yield reader, owner
    for attribute, value in vars(owner).items():
        method = attribute[:1].upper() + attribute[1:]
        if isinstance(value, list):
            for index, element in enumerate(value):
                if hasattr(element, "Pack"):
                    yield from _walk(getattr(reader, method)(index), element)
        elif hasattr(value, "Pack"):
            child = getattr(reader, method)()
            if not hasattr(child, "_tab"):  # a union: a bare table, to be read as the type the tree says
                typed = getattr(schema, type(value).__name__[:-1])()
                typed.Init(child.Bytes, child.Pos)
                child = typed
            yield from _walk(child, value)


_SLOTS: dict[str, int] = {}


def _known_slots(name: str) -> int:
    if name not in _SLOTS:
        builder = flatbuffers.Builder(64)
        getattr(schema, f"{name}Start")(builder)
        _SLOTS[name] = len(builder.current_vtable)
    return _SLOTS[name]


def _adopt_unions(reader, owner, owned: _Owned) -> None:
    """An option union whose type number is newer than the schema was read as None: replace it by a table of bytes."""
    for attribute in ("builtinOptions", "builtinOptions2", "details"):
        if getattr(owner, attribute, 0) is None and getattr(owner, f"{attribute}Type"):
            table = getattr(reader, attribute[:1].upper() + attribute[1:])()
            if table is not None:
                setattr(owner, attribute, Table(_fields(table.Bytes, table.Pos, 0, owned, attribute)))


def _table_at(data, position: int) -> tuple[int, int, int]:
    """Position and size of the vtable, and size of the table's own bytes."""
    vtable = position - struct.unpack_from("<i", data, position)[0]
    if not 0 <= vtable <= len(data) - 4:
        raise struct.error(f"vtable at {vtable}")
    vtable_size, size = struct.unpack_from("<HH", data, vtable)
    return vtable, vtable_size, size


def _fields(data, position: int, known: int, owned: _Owned, where: str, depth: int = 0) -> tuple[Field, ...]:
    """The fields of a table from slot `known` on."""
    vtable, vtable_size, size = _table_at(data, position)
    count = (vtable_size - 4) // 2
    if count <= known:
        return ()
    offsets = struct.unpack_from(f"<{count}H", data, vtable + 4)
    ends = sorted({offset for offset in offsets if offset} | {size})
    found = []
    for slot in range(known, count):
        if offsets[slot]:
            gap = ends[ends.index(offsets[slot]) + 1] - offsets[slot]
            found.append(Field(slot, _value(data, position + offsets[slot], gap, owned, f"{where}: field {slot}", depth)))
    return tuple(found)


def _value(data, position: int, gap: int, owned: _Owned, where: str, depth: int) -> "bytes | Text | Table":
    width = next(width for width in (8, 4, 2, 1) if width <= gap and position % width == 0)
    raw = bytes(data[position : position + width])
    offset = int.from_bytes(raw[:4], "little")
    target = position + offset
    as_offset = width >= 4 and not any(raw[4:]) and offset >= 4 and target % 4 == 0 and target <= len(data) - 4 and target not in owned
    if not as_offset:
        return raw
    text = _text_at(data, target)
    table = _table_or_none(data, target, owned, where, depth)
    if (text is None) == (table is None):
        raise UnsupportedModelError(
            f"{where} must be known to the schema of ai-edge-litert, or be a number, a string or a table. Received: bytes that could be several things. "
            "Install a newer ai-edge-litert, which knows this field."
        )
    return table if text is None else text


def _text_at(data, position: int) -> Text | None:
    length = struct.unpack_from("<I", data, position)[0]
    end = position + 4 + length
    if end >= len(data) or data[end] != 0:
        return None
    value = bytes(data[position + 4 : end])
    try:
        return Text(value) if value.decode("utf-8").isprintable() else None
    except UnicodeDecodeError:
        return None


def _table_or_none(data, position: int, owned: _Owned, where: str, depth: int) -> Table | None:
    try:
        vtable, vtable_size, size = _table_at(data, position)
        offsets = struct.unpack_from(f"<{(vtable_size - 4) // 2}H", data, vtable + 4)
    except struct.error:
        return None
    whole = vtable_size >= 4 and vtable_size % 2 == 0 and 4 <= size <= len(data) - position and all(offset == 0 or 4 <= offset < size for offset in offsets)
    if not whole or vtable % 2 or depth >= _MAX_DEPTH:
        return None
    return Table(_fields(data, position, 0, owned, where, depth + 1))


def _num_slots(fields: tuple[Field, ...]) -> int:
    return 1 + max((field.slot for field in fields), default=-1)


def _pack_children(fields: tuple[Field, ...], builder) -> dict[int, int]:
    return {field.slot: field.value.pack(builder) for field in fields if not isinstance(field.value, bytes)}


def _add_fields(fields: tuple[Field, ...], children: dict[int, int], builder) -> None:
    for field in fields:
        if field.slot in children:
            builder.PrependUOffsetTRelative(children[field.slot])
        else:
            builder.Prep(len(field.value), 0)
            builder.head -= len(field.value)
            builder.Bytes[builder.head : builder.head + len(field.value)] = field.value
        builder.Slot(field.slot)


def describe(unknown: list[Unknown]) -> list[str]:
    """`Operator: field 14`, ... for the report."""
    return sorted({f"{type(entry.owner).__name__[:-1]}: field {field.slot}" for entry in unknown for field in entry.fields})


__all__ = ["Table", "Unknown", "attached", "describe", "find"]
