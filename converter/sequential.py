"""Rounding layer after layer, each on the inputs that the layers before it, already rounded, hand on.

READ FIRST. In the compressed model a layer meets inputs x' that are not the original's x, and should give `W x` all the same. With the moments `H = E[x' x'^T]` and `D = E[(x - x') x'^T]`, both from
calibration data, the weights to aim at are the least-squares answer

    W + W D (H + damping)^-1,

and `feedback` then rounds those, with that H. So every layer mends what the layers before it broke, as far as its inputs show it: GPTQ (arXiv:2210.17323) takes H from there, GPTAQ
(arXiv:2504.02692) the target as well. Where a layer's output is added to another tensor, as at the end of a residual block, that tensor's error is to be mended too: `W D` becomes
`W D + E[(s - s') x'^T]`. Without it the sum's error stays, and the branch alone, drawn towards 0 by the noise in its inputs, makes it larger.
"""

import math
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter import check, feedback, layer_statistics
from tflite_smart.converter.compress import TensorSettings
from tflite_smart.converter.encoding import Encoded, Planned, Seen, encode_and_release
from tflite_smart.converter.format import to_matrix
from tflite_smart.converter.model_editor import Model, shape
from tflite_smart.converter.pieces import Pair, Unsuitable

# Relative to the mean of H's diagonal: targets must not follow what some hundred samples happen to have in common. Between .02 and .3 the outputs on other samples hardly differ.
_DAMPING = 0.02
_LARGEST_K = 4608  # wider layers are rounded with what is known of the original's
_SEED = 0


def encode(model: Model, planned: list[Planned], pair: Pair, step: Callable = lambda item: item) -> list[Encoded]:
    """Encodes the weights in the order in which the model uses them.

    Args:
        model: the original. planned: of `encoding.plan` on it. pair: at its beginning. step: called with every result.

    Returns:
        What came of the weights, in the order of `planned`. From where the pair can't be run, they are rounded with what is known of the original's layers.
    """
    decode, numbers = check.decoder(), {id(op): number for number, op in enumerate(model.schema.subgraphs[0].operators)}
    first_use = [min((numbers.get(id(site.op), 0) for site in entry.weight.sites), default=0) for entry in planned]
    layers = {layer.buffer: layer for layer in layer_statistics.layers_of(model, [entry.weight for entry in planned]) if layer.k <= _LARGEST_K}
    results: dict[int, Encoded] = {}
    for index in sorted(range(len(planned)), key=lambda index: first_use[index]):
        entry, weight = planned[index], planned[index].weight
        layer, seen = layers.get(weight.buffer), None
        if layer is not None and isinstance(entry.decision, TensorSettings) and _shows_enough(model, layer, weight.sites[0].op, pair):
            try:
                pair.reach(first_use[index])
                seen = _look(model, layer, weight.sites[0].op, to_matrix(weight.values(), weight.info.axis), pair)
            except Unsuitable:
                layers = {}
        result = results[index] = step(encode_and_release(model, entry, seen=seen))
        if result.blob and result.value_kind != "integer":
            values = decode(np.frombuffer(result.blob, np.uint8), weight.info.shape, weight.info.axis)
            pair.replace(weight.buffer, values.astype(weight.stored.dtype))
    return [results[index] for index in range(len(planned))]


def _shows_enough(model: Model, layer: layer_statistics.Layer, op: schema.OperatorT, pair: Pair) -> bool:
    """Whether the samples say as much as can be had. Where a large model leaves room for some of them only, a layer with few positions is better off with what all of them say of the original."""
    positions = math.prod(shape(model.schema.subgraphs[0].tensors[int(op.outputs[0])])[:-1])
    return pair.has_all or pair.num_samples * positions >= layer_statistics.ROWS_PER_ELEMENT * layer.k


def _look(model: Model, layer: layer_statistics.Layer, op: schema.OperatorT, weight: np.ndarray, pair: Pair) -> Seen:
    """The factor and the target of a layer that the pair has reached; `weight` is float32 `(num_channels, k)`."""
    added = _added(model, op) if pair.differs else None
    beside = None if added is None else pair.values(added)
    own, cross = layer_statistics.Moment(layer.k, layer.k), layer_statistics.Moment(layer.k, layer.k)
    mended = layer_statistics.Moment(layer.k, len(weight))
    for sample, (before, now) in enumerate(zip(*pair.values(layer.tensor))):
        draw = lambda vectors, values: vectors(values, layer.most_rows(pair.num_samples), np.random.default_rng((_SEED, sample)))  # noqa: B023, E731
        rows = draw(layer.vectors, now)
        own.add(rows, rows)
        if pair.differs:
            cross.add(rows, draw(layer.vectors, before) - rows)
        if beside is not None:
            mended.add(rows, draw(layer_statistics.draw, beside[0][sample] - beside[1][sample]))
    moment = own.mean()
    factor = feedback.feedback_factor(moment)
    if not pair.differs:
        return Seen(factor, weight)
    moment[np.diag_indices_from(moment)] += _DAMPING * np.trace(moment) / layer.k + np.finfo(np.float32).tiny
    shift = np.linalg.solve(moment, cross.mean() @ weight.T + mended.mean()).T
    return Seen(factor, np.ascontiguousarray(weight + shift, np.float32))


def _added(model: Model, op: schema.OperatorT) -> int | None:
    """The tensor that the operator's output is added to, of the same shape, and by nothing else read."""
    main = model.schema.subgraphs[0]
    output = int(op.outputs[0])
    readers = model.consumers(main).get(output, [])
    if len(readers) != 1 or model.op_name(readers[0][0]) != "ADD" or len(shape(main.tensors[output])) != 4:
        return None
    other = int(readers[0][0].inputs[1 - readers[0][1]])
    return other if shape(main.tensors[other]) == shape(main.tensors[output]) and not model.is_constant(main.tensors[other]) else None
