"""Cross-validate predictions of learning rates: how far each is from the best rate of a contest that was left out.

Rates are positions of the lattice of quarter decades. The best rate of a contest is predicted from the other tasks of its
method, as their mean, or from other methods, by a straight line in the rate that the curvature gives at the start of
training (`adapterlab.lab.trial.start_scale`), or by both.

>>> known = [Known("a", "x", -8.0, -7.0), Known("a", "y", -9.0, -7.5), Known("b", "x", -12.0, -11.0)]
>>> [round(error, 1) for error in errors(known, of_method)]
[-1.0, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RIDGE = 1.0
"""Penalty on a slope, in squared lattice steps."""


@dataclass(frozen=True)
class Known:
    """The best rate of one method on one task."""

    method: str
    task: str
    best: float
    """Position of the best rate on the lattice."""
    scale: float | None
    """Position of the rate that the curvature at the start gives; None if it is not known."""
    steps: int = 20
    """Training steps of the runs that show it."""


Predictor = Callable[[Known, Sequence[Known]], float | None]
"""Predicts the best position of a contest from others; None if these do not suffice."""


def of_method(contest: Known, others: Sequence[Known]) -> float | None:
    """Return the mean best position of the method on other tasks."""
    found = [other.best for other in others if other.method == contest.method]
    return float(np.mean(found)) if found else None


def of_curvature(contest: Known, others: Sequence[Known]) -> float | None:
    """Return the prediction of a straight line in the curvature's rate, fitted to other methods."""
    if contest.scale is None:
        return None
    intercept, slope = line([other for other in others if other.method != contest.method])
    return intercept + slope * contest.scale


def of_scale(contest: Known, others: Sequence[Known]) -> float | None:
    """Return the curvature's rate times a constant, the mean over other methods."""
    rest = [o.best - o.scale for o in others if o.method != contest.method and o.scale is not None]
    return None if contest.scale is None or not rest else contest.scale + float(np.mean(rest))


def of_both(contest: Known, others: Sequence[Known]) -> float | None:
    """Return the mean of the predictions of the method and of the curvature."""
    found = of_method(contest, others), of_curvature(contest, others)
    return None if found[0] is None or found[1] is None else (found[0] + found[1]) / 2


def of_moved_method(contest: Known, others: Sequence[Known]) -> float | None:
    """Return the mean best position of the method, moved by the difference in curvature between the tasks.

    The slope is that of ridge regression within the other methods.
    """
    same = [o for o in others if o.method == contest.method and o.scale is not None]
    if not same or contest.scale is None:
        return None
    x, y = _within([o for o in others if o.method != contest.method and o.scale is not None])
    slope = float((x * y).sum() / ((x**2).sum() + RIDGE))
    return float(np.mean([o.best + slope * (contest.scale - (o.scale or 0.0)) for o in same]))


def _within(contests: Sequence[Known]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scales and the best positions less the means of their methods."""
    x, y = [], []
    for method in {contest.method for contest in contests}:
        own = [contest for contest in contests if contest.method == method]
        x += list(np.array([o.scale for o in own], float) - np.mean([o.scale or 0.0 for o in own]))
        y += list(np.array([o.best for o in own]) - np.mean([o.best for o in own]))
    return np.array(x), np.array(y)


def line(contests: Sequence[Known]) -> tuple[float, float]:
    """Return intercept and slope of the best position over the curvature's, by ridge regression with equal methods.

    Each method weighs the same, however many tasks it has; the penalty pulls the slope towards zero.
    """
    known = [contest for contest in contests if contest.scale is not None]
    counts = {method: sum(o.method == method for o in known) for method in {o.method for o in known}}
    weights = np.array([1 / counts[o.method] for o in known])
    x, y = np.array([o.scale for o in known], float), np.array([o.best for o in known])
    middle_x, middle_y = np.average(x, weights=weights), np.average(y, weights=weights)
    above = (weights * (x - middle_x) * (y - middle_y)).sum()
    slope = float(above / ((weights * (x - middle_x) ** 2).sum() + RIDGE))
    return float(middle_y - slope * middle_x), slope


def errors(contests: Sequence[Known], predict: Predictor) -> list[float]:
    """Return the predicted less the best position of each contest that can be predicted from the others."""
    found = []
    for contest in contests:
        others = [other for other in contests if other is not contest]
        if (predicted := predict(contest, others)) is not None:
            found.append(predicted - contest.best)
    return found


def within_a_step(found: Sequence[float]) -> float:
    """Return the share of errors of at most one step of the lattice."""
    return float(np.mean(np.abs(found) <= 1)) if found else 0.0


def reach(found: Sequence[float], share: float = 0.9) -> float:
    """Return the distance that a share of the errors stays within, in lattice steps."""
    return float(np.quantile(np.abs(found), share))
