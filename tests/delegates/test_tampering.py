"""A small model damaged in every place: a named error, LiteRT's own error, or a valid model; never a crash, a hang, or a packed weight that decodes to something else.

Run with -s to see the counts. What LiteRT's flatbuffer gives no check sum (names, options, biases, shapes, the graph) can be changed into another valid model by
whoever writes the file: such a model computes what it says. The packed weights are what we promise to notice.
"""

import collections
import re

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests import hostile
from tests.delegates import models

X_SHAPE = (1, 5, 5, 4)
EDGES = (0, 1, 2, 3, 7, 100, -1, -2, 65536, 2**31 - 1, -(2**31))


@pytest.fixture(scope="module")
def judge():
    judge = hostile.Judge()
    yield judge
    judge.close()


def small_model() -> bytes:
    """Two convolutions of one shape, a dense layer, and an expanded constant that a builtin op reads: about 2.5 KB."""
    rng = np.random.default_rng(2101)
    model = models.ModelBuilder()
    x, a, b = (model.tensor(name, X_SHAPE) for name in "xab")
    y, z, constant = model.tensor("y", (1, 6)), model.tensor("z", (1, 6)), model.tensor("constant", (1, 6))
    options = {"stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "padding": "SAME", "activation": "NONE", "filter_h": 1, "filter_w": 1, "filter_in": 4}
    for name, source, target, codec in (("w0", x, a, "rans"), ("w1", a, b, "bitpack")):
        bias = model.constant(f"{name}_bias", rng.normal(size=4).astype(np.float32))
        model.custom("TFLiteSmart.Conv2D", [source, model.packed(name, models.random_weight(rng, (4, 1, 1, 4), 0, codec=codec)), bias], [target], options)
    dense = models.random_weight(rng, (6, 100), 0, codec="sparse")
    model.custom("TFLiteSmart.FullyConnected", [b, model.packed("w2", dense), -1], [y], {"activation": "NONE", "keep_num_dims": 0})
    expanded = models.random_weight(rng, (1, 6), 1, codec="raw", value_kind="midrise")
    model.custom("TFLiteSmart.Expand", [model.packed("w3", expanded), y], [constant], {"axis": 1})
    model.builtin("ADD", [y, constant], [z], schema.AddOptionsT())
    return model.build([x], [z])


MODEL = small_model()


def packed_places() -> np.ndarray:
    """bool `(len(MODEL),)`: which bytes belong to packed weights."""
    inside = np.zeros(len(MODEL), bool)
    for buffer in schema.ModelT.InitFromPackedBuf(bytearray(MODEL)).buffers:
        if buffer.data is not None and bytes(buffer.data[:4]) == b"TFSW":
            start = MODEL.find(bytes(buffer.data))
            inside[start : start + len(buffer.data)] = True
    return inside


def edited(edit) -> bytes:
    """The model after `edit(ModelT)`."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(MODEL))
    edit(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def rule_of(outcome: hostile.Outcome) -> str:
    """What must be otherwise: a rule of FORMAT.md, section 5, an option, a tensor of the op."""
    return re.search(r"([\w ]+) must be ", outcome.detail)[1].strip()


def report(title: str, outcomes, original: hostile.Outcome) -> None:
    """Prints the counts; no outcome may be a crash or a hang."""
    counts = hostile.count(outcomes)
    same = sum(outcome == original for outcome in outcomes)
    print(f"\n{title}: {len(outcomes)} tried, {counts['named']} named by us, {counts['litert']} by LiteRT, {counts['valid']} valid ({same} with the same outputs), "
          f"{counts['crash'] + counts['hang']} crashes")  # fmt: skip
    rules = collections.Counter(rule_of(outcome) for outcome in outcomes if outcome.kind == "named")
    print("  " + ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items())))
    bad = [outcome for outcome in outcomes if outcome.kind in ("crash", "hang")]
    assert not bad, bad[0]


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_every_byte_flipped(judge, mask):
    inside, original = packed_places(), judge.outcome(MODEL)
    assert original.kind == "valid" and inside.sum() > 700
    outcomes = []
    for position in range(len(MODEL)):
        damaged = bytearray(MODEL)
        damaged[position] ^= mask
        outcomes.append(judge.outcome(bytes(damaged)))
    report(f"bytes xor {mask:#04x}", outcomes, original)
    assert all(outcome.kind == "named" for outcome, packed in zip(outcomes, inside) if packed)


def test_cut_at_every_length(judge):
    original = judge.outcome(MODEL)
    outcomes = [judge.outcome(MODEL[:length]) for length in range(1, len(MODEL), 3)]
    report("lengths", outcomes, original)
    assert not [outcome for outcome in outcomes if outcome.kind == "valid" and outcome != original]


def test_blocks_swapped_between_layers(judge):
    """Bytes of one packed weight in another: the check sums see it. A whole weight in another's place: seen unless it has the same shape; then it is a valid model, another one."""
    original, outcomes = judge.outcome(MODEL), []
    blobs = [bytes(buffer.data) for buffer in schema.ModelT.InitFromPackedBuf(bytearray(MODEL)).buffers if buffer.data is not None and bytes(buffer.data[:4]) == b"TFSW"]
    for into in blobs:
        for source in blobs:
            for start in range(0, min(len(into), len(source)) - 16, 8):
                damaged = into[:start] + source[start : start + 16] + into[start + 16 :]
                if damaged != into:
                    outcomes.append(judge.outcome(MODEL.replace(into, damaged)))
    report("16-byte blocks", outcomes, original)
    assert all(outcome.kind == "named" for outcome in outcomes)

    outcomes = []
    for i in range(4):
        for j in range(i):

            def swap(model, i=i, j=j):
                tensors = [tensor for tensor in model.subgraphs[0].tensors if tensor.name[:1] == b"w" and len(tensor.name) == 2]
                tensors[i].buffer, tensors[j].buffer = tensors[j].buffer, tensors[i].buffer
                tensors[i].shape, tensors[j].shape = tensors[j].shape, tensors[i].shape

            outcomes.append(judge.outcome(edited(swap)))
    report("whole weights", outcomes, original)
    assert hostile.count(outcomes)["valid"] == 1  # the two convolutions


def test_shapes_types_and_connections_edited(judge):
    original, outcomes = judge.outcome(MODEL), []
    graph = schema.ModelT.InitFromPackedBuf(bytearray(MODEL)).subgraphs[0]

    def set_dim(tensor, axis, value):
        def edit(model):
            model.subgraphs[0].tensors[tensor].shape[axis] = value

        return edit

    def set_field(tensor, field, value):
        return lambda model: setattr(model.subgraphs[0].tensors[tensor], field, value)

    def set_end(op, ends, place, value):
        def edit(model):
            getattr(model.subgraphs[0].operators[op], ends)[place] = value

        return edit

    for index, tensor in enumerate(graph.tensors):
        outcomes += [judge.outcome(edited(set_dim(index, axis, value))) for axis in range(len(tensor.shape)) for value in EDGES]
        outcomes += [judge.outcome(edited(set_field(index, "shape", np.ones(rank, np.int32)))) for rank in (0, 1, 3, 9)]
        outcomes += [judge.outcome(edited(set_field(index, "type", kind))) for kind in range(18)]
        outcomes += [judge.outcome(edited(set_field(index, "buffer", buffer))) for buffer in range(8)]
    for index, op in enumerate(graph.operators[:-1]):  # not the builtin ADD: LiteRT's own kernel crashes where an input is absent
        for ends, count in (("inputs", len(op.inputs)), ("outputs", len(op.outputs))):
            outcomes += [judge.outcome(edited(set_end(index, ends, place, tensor))) for place in range(count) for tensor in range(-2, len(graph.tensors) + 1)]
    report("shapes, types, connections", outcomes, original)
