"""The builtin operators that have weights: what each must consist of. Looked at when a model is read, so that everything behind may rely on it.

What the runtime's kernels ask for besides (options, types, matching shapes) is theirs to check: the converter carries it over as it is.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class _Form:
    """num_inputs: how many of the first inputs must be there. rank: of the weight, input 1, if it is a filter."""

    num_inputs: int = 2
    rank: int | None = None


_FORMS = {
    "CONV_2D": _Form(rank=4),
    "DEPTHWISE_CONV_2D": _Form(rank=4),
    "TRANSPOSE_CONV": _Form(3, 4),
    "CONV_3D": _Form(rank=5),
    "CONV_3D_TRANSPOSE": _Form(3, 5),
    "FULLY_CONNECTED": _Form(),
    "BATCH_MATMUL": _Form(),
    "GATHER": _Form(),
    "EMBEDDING_LOOKUP": _Form(),
    "DEQUANTIZE": _Form(1),
    "LSTM": _Form(1),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _Form(1),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _Form(1),
    "RNN": _Form(3),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _Form(3),
    "BIDIRECTIONAL_SEQUENCE_RNN": _Form(3),
    "SVDF": _Form(3),
    "PRELU": _Form(),
    "ADD": _Form(),
    "SUB": _Form(),
    "MUL": _Form(),
    "DIV": _Form(),
    "IF": _Form(1),
}


def broken(name: str, inputs: list[int], outputs: list[int], ranks: list[int]) -> tuple[str, object, str] | None:
    """What is wrong with an operator: field, what it is, what it must be. None for a good one, and for those that have no weights.

    Args:
        name: as in the schema. inputs, outputs: tensor indices, -1 where one is absent. ranks: of all tensors of the subgraph.
    """
    form = _FORMS.get(name)
    if form is None:
        return None
    if len(inputs) < form.num_inputs or min(inputs[: form.num_inputs]) < 0:
        return "inputs", inputs, f"at least {form.num_inputs} tensors"
    if not outputs or min(outputs) < 0:
        return "outputs", outputs, "at least 1 tensor"
    if form.rank and ranks[inputs[1]] != form.rank:
        return "rank of the filter", ranks[inputs[1]], str(form.rank)
    return None
