"""Which constant inputs of which operators are weights, and along which axis their output channels lie. Data, no code paths.

An axis below 0 counts from the end. The ops here read their weights only while they run; `REFUSALS` names the cases where the runtime's kernel does not, and
needs a constant. Checked in LiteRT's `kernels/`.
"""

from ai_edge_litert import schema_py_generated as schema

from tflite_smart.converter.model_editor import Model

_LSTM_GATES = {number: 0 for number in (1, 2, 3, 4, 5, 6, 7, 8)}

WEIGHT_INPUTS: dict[str, dict[int, int]] = {
    "CONV_2D": {1: 0},
    "DEPTHWISE_CONV_2D": {1: 3},
    "FULLY_CONNECTED": {1: 0},
    "TRANSPOSE_CONV": {1: 0},
    "CONV_3D": {1: 4},
    "CONV_3D_TRANSPOSE": {1: 3},
    "BATCH_MATMUL": {0: -2, 1: -1},
    "GATHER": {0: 0},
    "EMBEDDING_LOOKUP": {1: 0},
    "LSTM": {**_LSTM_GATES, 16: 0},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {**_LSTM_GATES, 16: 0},
    "BIDIRECTIONAL_SEQUENCE_LSTM": {**_LSTM_GATES, 16: 0, **{number + 17: 0 for number in (*_LSTM_GATES, 16)}, **{number: 0 for number in range(40, 48)}},
    "RNN": {1: 0, 2: 0},
    "UNIDIRECTIONAL_SEQUENCE_RNN": {1: 0, 2: 0},
    "BIDIRECTIONAL_SEQUENCE_RNN": {1: 0, 2: 0, 5: 0, 6: 0, 10: 0, 11: 0},
    "SVDF": {1: 0, 2: 0},
    "PRELU": {1: -1},
    "ADD": {0: -1, 1: -1},
    "SUB": {0: -1, 1: -1},
    "MUL": {0: -1, 1: -1},
    "DIV": {0: -1, 1: -1},
    # What the branches read from outside is handed to them as inputs 1, 2, ...: tf.cond keeps its weights there.
    "IF": {number: 0 for number in range(1, 64)},
}  # fmt: skip

_INTEGER = (schema.TensorType.INT8, schema.TensorType.INT16, schema.TensorType.UINT8)


def weight_axis(model: Model, op: schema.OperatorT, number: int, rank: int) -> int | None:
    """Channel axis of input `number` of the operator, or None if that input is no weight."""
    axis = WEIGHT_INPUTS.get(model.op_name(op), {}).get(number)
    if axis is None:
        return None
    if isinstance(op.builtinOptions, schema.BatchMatMulOptionsT) and (op.builtinOptions.adjX if number == 0 else op.builtinOptions.adjY):
        axis = {-2: -1, -1: -2}[axis]
    axis = axis + rank if axis < 0 else axis
    return axis if 0 <= axis < rank else None


def refusal(model: Model, subgraph: schema.SubGraphT, op: schema.OperatorT) -> str | None:
    """Why the weights of this operator must stay constants, or None."""
    name = model.op_name(op)
    for reason, names, applies in REFUSALS:
        if name in names and applies(subgraph, op):
            return f"{name} {reason}"
    return None


def _integer_activations(subgraph: schema.SubGraphT, op: schema.OperatorT) -> bool:
    return subgraph.tensors[int(op.inputs[0])].type in _INTEGER


def _hybrid(subgraph: schema.SubGraphT, op: schema.OperatorT) -> bool:
    types = [subgraph.tensors[int(index)].type for index in op.inputs[:2]]
    return types[0] == schema.TensorType.FLOAT32 and types[1] != schema.TensorType.FLOAT32


def _shuffled(subgraph: schema.SubGraphT, op: schema.OperatorT) -> bool:
    return isinstance(op.builtinOptions, schema.FullyConnectedOptionsT) and op.builtinOptions.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT


REFUSALS = (
    # `PopulatePrecomputedZPTimesWeightsWithBias` and `PopulateQuantizedLstmParams` read the weights in Prepare, before any operator has run.
    ("with integer activations reads its weights when the model is loaded", ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"), _integer_activations),
    # The runtime's XNNPACK delegate takes it whether or not the int8 input is a constant, and gives zeros if it is not (seen with LiteRT 2.3.0).
    ("with float activations and int8 weights is computed wrongly by XNNPACK unless they are constants", ("BATCH_MATMUL",), _hybrid),
    ("has its weights in a shuffled order", ("FULLY_CONNECTED",), _shuffled),
)
