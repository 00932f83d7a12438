"""Which error budget to measure next: three searches over one number, each for one kind of target. Plain functions; what is measured is the caller's.

Budgets lie on a grid, far finer than they can be measured: so that the last digits of a sum, which depend on the number of threads and the instruction set, do not decide on
the bytes of the output.
"""

import math
from collections.abc import Callable

import numpy as np

_NEAR_DB = 6.0  # farther from the target the law is too rough to average with
_GRID_DB = 0.5
LEAST_BUDGET, MOST_BUDGET = 4e-6, 0.9  # beyond these `allocate` has every weight at its limits, or nearly
_STRIDE_DB = 6.0


def search_budget(measure: Callable[[float], float], target_db: float, start: float, num_measurements: int = 6) -> float:
    """The largest error budget that was measured to reach `target_db`.

    For small errors the output's noise grows in proportion to the budget: `snr = c - 10 log10(budget)`. Every measurement estimates c, and the median of the estimates near the target says
    where to measure next. How the roundings happen to fall makes single budgets scatter by 2 to 4 dB around the law; the same budget always gives the same roundings, so it is
    worth choosing one that was seen to be good.

    Args:
        measure: budget -> SNR in dB; inf or nan ends the search, as there is nothing to trade then.
        target_db, start: what to reach, where to begin.

    Returns:
        The budget. Where none reached the target: the next guess, or, if finer ones did not come nearer, the largest of the nearest, as bits that buy nothing are not spent.
    """
    budget, measured = _on_grid(start), {}
    for _ in range(num_measurements):
        snr = measure(budget)
        if not math.isfinite(snr):
            return budget
        measured[budget] = snr
        estimates = sorted((abs(s - target_db), s + 10 * math.log10(b)) for b, s in measured.items())
        near = [c for distance, c in estimates if distance <= _NEAR_DB] or [estimates[0][1]]
        budget = _unmeasured(float(np.clip(10 ** ((np.median(near) - target_db) / 10), LEAST_BUDGET, MOST_BUDGET)), measured, target_db)
    reached = [b for b, s in measured.items() if s >= target_db]
    if reached:
        return max(reached)
    best = max(measured.values())
    return max(b for b, s in measured.items() if s >= best - 1.0) if best < target_db - _NEAR_DB / 2 else budget


def search_coarsest(good: Callable[[float], bool], start: float, num_measurements: int) -> float | None:
    """The largest budget that was measured to be good, where smaller ones are better on the whole; None where none was good.

    In strides of 6 dB to a good and a bad budget that are neighbours, then halving the distance in between.
    """
    budget, best, worst = _on_grid(start), None, None
    for _ in range(num_measurements):
        if good(budget):
            best = budget
        else:
            worst = budget
        if best is None:
            following = worst * 10 ** (-_STRIDE_DB / 10)
        elif worst is None:
            following = best * 10 ** (_STRIDE_DB / 10)
        else:
            following = math.sqrt(best * worst)
        following = _on_grid(min(max(following, LEAST_BUDGET), MOST_BUDGET))
        if following in (best, worst):
            break
        budget = following
    return best


def search_size(measure: Callable[[float], float], target: float, start: float, num_measurements: int = 8) -> float | None:
    """The smallest budget whose size is at most `target`; None where the largest budget's is more.

    In growing strides to a size on either side of the target, then along the line between the two. Sizes over the budget, both as logarithms, are a curve that is steep on the left, so one end of the
    bracket would stay for ever: as often as it stays, its distance from the target is halved (the Illinois rule). Not on the grid: sizes are exact.

    Args:
        measure: budget -> size; falls as the budget grows.
    """
    excess = lambda at: math.log(measure(math.exp(at)) / target)  # noqa: E731
    least, most = math.log(LEAST_BUDGET), math.log(MOST_BUDGET)
    ends = {True: (most, excess(most))}  # by whether the size fits
    if ends[True][1] > 0:
        return None
    at, stride, last = min(max(math.log(start), least), most), _STRIDE_DB * math.log(10) / 10, None
    for _ in range(num_measurements):
        over = excess(at)
        fits = over <= 0
        if fits == last and len(ends) == 2:
            ends[not fits] = ends[not fits][0], ends[not fits][1] / 2
        ends[fits], last = (at, over), fits
        if -0.001 <= over <= 0 or at == least and fits or len(ends) == 2 and ends[True][0] - ends[False][0] < 0.01:
            break
        if len(ends) == 2:
            at = _on_line(ends[False], ends[True], -0.0005)
        else:
            at, stride = max(at - stride, least), 2 * stride
    return math.exp(ends[True][0])


def _on_line(low: tuple[float, float], high: tuple[float, float], aim: float) -> float:
    """Where the line through two points (logarithm of the budget, excess) has the excess `aim`, kept off the ends of the bracket."""
    at = low[0] + (aim - low[1]) * (high[0] - low[0]) / (high[1] - low[1])
    margin = 0.05 * (high[0] - low[0])
    return min(max(at, low[0] + margin), high[0] - margin)


def _unmeasured(budget: float, measured: dict[float, float], target_db: float) -> float:
    """The budget on the grid, or the next one that was not measured yet: towards coarser where the target was reached, towards finer where not."""
    budget = _on_grid(budget)
    direction = 1 if measured.get(budget, target_db) >= target_db else -1
    while budget in measured:
        budget = _on_grid(budget * 10 ** (direction * _GRID_DB / 10))
    return budget


def _on_grid(budget: float) -> float:
    return 10 ** (round(10 * math.log10(budget) / _GRID_DB) * _GRID_DB / 10)


