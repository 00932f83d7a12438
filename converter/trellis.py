"""The trellis: rounding that weighs sequences of ids, and what ids mean as value kind `dependent`.

READ FIRST. Dependent quantization (trellis-coded quantization: Marcellin and Fischer 1990; as a lossy front end of an entropy coder: Schwarz et al., DCC 2019, the tool
that VVC and NNCodec have) uses two interleaved grids, the even and the odd whole numbers. A state of three bits says which one the next id counts on, and the id's parity
says which state follows: the decoder needs one table look-up. Neighbouring ids thus lead to different futures, and an encoder that searches among them (Viterbi's algorithm, 8 survivors)
gets a finer choice of points than the bits of one grid pay for: 1 dB at equal rate, of the 1.5 dB that separate plain rounding from the limit.

The same search serves plain grids, where the states mean nothing to the decoder: the survivors are then simply eight different beginnings, and that one is kept whose errors
the rest of the channel makes up for best. (Errors have consequences for later weights: see `feedback`.)
"""

import numpy as np

NUM_STATES = 8
MAX_DEPENDENT_ID = 63  # so that every value fits an int8
# FORMAT.md, 1: the state after an id, by its parity. An odd state counts on the odd numbers.
NEXT_STATE = np.array([[0, 2], [5, 7], [1, 3], [6, 4], [2, 0], [4, 6], [3, 1], [7, 5]], np.uint8)
# For other kinds: the state is the parities of the last three ids.
_SHIFTED = np.array([[2 * state % NUM_STATES + parity for parity in (0, 1)] for state in range(NUM_STATES)], np.uint8)
_NEVER = np.float32(3e38)


def dependent_values(ids: np.ndarray) -> np.ndarray:
    """What ids `(num_channels, k)` mean as `dependent`: int8 `2 * id + (state & 1)`, wrapping; every channel starts in state 0."""
    values = np.empty(ids.shape, np.int8)
    state = np.zeros(len(ids), np.uint8)
    for k in range(ids.shape[1]):
        values[:, k] = (ids[:, k].view(np.uint8) << 1) + (state & 1)
        state = NEXT_STATE[state, ids[:, k] & 1]
    return values


def plain_values(ids: np.ndarray, value_kind: str) -> np.ndarray:
    """float32 `value(id)` of ids `(num_channels, k)`, for the kinds that need no table."""
    if value_kind == "dependent":
        return dependent_values(ids).astype(np.float32)
    values = ids.astype(np.float32)
    values += np.float32(0.5 if value_kind == "midrise" else 0.0)
    return values


def round_block(weights: np.ndarray, asked: np.ndarray, matrix: np.ndarray, importance: np.ndarray, states: np.ndarray, dependent: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids of a few columns that minimise the sum over k of `importance[k] * (aim - v)^2`, the reference of `native.round_block`.

    `v` is the value of column k's id, and `aim = weights[n, k] + asked[n, k] + sum over j < k of (weights[n, j] - v_j) * matrix[j, k]`: what a column misses, those behind it make up for.
    A weight of 0 stays 0 on the whole numbers, as pruned weights must. float32, in this order; of equal sums the one of the lowest state, then of the even id.

    Args:
        weights, asked: float32 `(num_channels, columns)`, in steps.
        matrix: float32 `(columns, columns)`; what lies on and below the diagonal is not read.
        importance: float32 `(columns,)`.
        states: uint8 `(num_channels,)`, where the channels stand; moved on in place.
        dependent: on the grids of `dependent`, else on the whole numbers.

    Returns:
        The ids and their values, int8 `(num_channels, columns)`.
    """
    num_channels, columns = weights.shape
    table = NEXT_STATE if dependent else _SHIFTED
    spacing = np.float32(2 if dependent else 1)
    start = (np.arange(NUM_STATES) & 1).astype(np.float32) if dependent else np.zeros(NUM_STATES, np.float32)
    lowest, highest = ((-62, -63), (62, 63)) if dependent else ((-128, -127), (126, 127))
    every = np.arange(num_channels)
    cost = np.full((num_channels, NUM_STATES), _NEVER)
    cost[every, states] = 0
    errors = np.zeros((columns, num_channels, NUM_STATES), np.float32)
    ids, values = (np.zeros((columns, num_channels, NUM_STATES), np.int8) for _ in range(2))
    origin = np.zeros((columns, num_channels, NUM_STATES), np.uint8)
    for k in range(columns):
        aim = np.repeat(weights[:, k, None] + asked[:, k, None], NUM_STATES, axis=1)
        for j in range(k):
            aim += errors[j] * matrix[j, k]
        best = np.full((num_channels, NUM_STATES), _NEVER)
        error = np.zeros((num_channels, NUM_STATES), np.float32)
        kept = np.zeros(num_channels, bool) if dependent else weights[:, k] == 0
        for state in range(NUM_STATES):
            position = (aim[:, state] - start[state]) / spacing
            for parity in (0, 1):
                nearest = np.float32(2) * np.rint((position - np.float32(parity)) * np.float32(0.5)) + np.float32(parity)
                nearest = np.clip(nearest, np.float32(lowest[parity]), np.float32(highest[parity]))
                nearest = np.where(kept, np.float32(0), nearest)
                value = nearest * spacing + start[state]
                missed = aim[:, state] - value
                total = cost[:, state] + missed * missed * importance[k]
                after = table[state, parity]
                better = (total < best[:, after]) & ~(kept & (parity == 1))
                best[better, after] = total[better]
                error[better, after] = (weights[:, k] - value)[better]
                ids[k, better, after], values[k, better, after] = nearest[better], value[better]
                origin[k, better, after] = state
        cost = best
        errors[:k] = np.take_along_axis(errors[:k], origin[k][None].astype(np.intp), axis=2)
        errors[k] = error
    survivor = cost.argmin(axis=1)
    states[:] = survivor
    chosen, chosen_values = (np.empty((num_channels, columns), np.int8) for _ in range(2))
    for k in range(columns - 1, -1, -1):
        chosen[:, k], chosen_values[:, k] = ids[k, every, survivor], values[k, every, survivor]
        survivor = origin[k, every, survivor]
    return chosen, chosen_values
