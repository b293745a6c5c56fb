"""Paired differences: Student's interval for one task, a mean over the study's tasks, Holm's correction for many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import stdtr, stdtrit

K = TypeVar("K")
LUCK_DF = 5.0
"""Degrees of freedom of a task's luck: it is read from a handful of short runs."""


@dataclass(frozen=True)
class Paired:
    """The mean of paired differences, its 95 % interval by Student's t, and the two-sided p-value of no difference."""

    mean: float
    low: float
    high: float
    p: float
    n: int
    """Pairs."""
    error: float = math.inf
    """Standard error of the mean."""
    df: float = 0.0
    """Degrees of freedom of the error."""

    @property
    def real(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def from_error(mean: float, error: float, df: float, n: int, level: float = 0.95) -> Paired:
    """What a mean with its standard error and degrees of freedom says."""
    if df <= 0 or not math.isfinite(error):
        return Paired(mean, -math.inf, math.inf, 1.0, n)
    if error <= 1e-9 * abs(mean):  # the differences vary by rounding alone, of which no deviation can be made
        return Paired(mean, mean, mean, 1.0 if mean == 0 else 0.0, n, 0.0, df)
    reach = float(stdtrit(df, (1 + level) / 2)) * error
    return Paired(mean, mean - reach, mean + reach, float(2 * stdtr(df, -abs(mean) / error)), n, error, df)


def paired(differences: Sequence[float], level: float = 0.95) -> Paired:
    """Student's paired t on `differences`; of fewer than two nothing but the mean is known."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return from_error(float(d.mean()) if len(d) else math.nan, math.inf, 0, len(d), level)
    return from_error(float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1, len(d), level)


def stratified(
    by_task: Mapping[str, Sequence[float]], luck: Mapping[str, float] | None = None, level: float = 0.95
) -> Paired:
    """The mean over these tasks, each weighing the same, whose error comes from the seeds within each task.

    It speaks of these tasks and no others, so a difference that is large on one and small on another widens nothing; see
    `across_tasks` for tasks like these. `luck` is, by task, a variance that the seeds cannot show since they share it:
    the luck of the choice of a learning rate. Degrees of freedom by Satterthwaite (1946). A task with one pair is
    given the mean variance of the others.
    """
    groups = {task: np.asarray(values, dtype=float) for task, values in by_task.items() if len(values)}
    n = sum(map(len, groups.values()))
    if not groups:
        return from_error(math.nan, math.inf, 0, 0, level)
    mean = float(np.mean([d.mean() for d in groups.values()]))
    spread = {task: float(d.var(ddof=1)) for task, d in groups.items() if len(d) > 1}
    if not spread:
        return from_error(mean, math.inf, 0, n, level)
    usual = float(np.mean(list(spread.values())))
    parts = {task: spread.get(task, usual) / len(d) for task, d in groups.items()}
    shared = [(luck or {}).get(task, 0.0) for task in groups]
    error = math.sqrt(sum(parts.values()) + sum(shared)) / len(groups)
    return from_error(mean, error, _freedom([(parts[t], len(groups[t]) - 1) for t in spread], shared), n, level)


def _freedom(parts: Sequence[tuple[float, int]], shared: Sequence[float]) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances; what is `shared` only ever lowers them.

    By his formula a second part of like size raises them, which is too much for so rough an estimate as luck's.
    """
    seeds = sum(variance for variance, _ in parts)
    if seeds == 0:
        return LUCK_DF if any(shared) else float(sum(df for _, df in parts))
    ratios = [variance / seeds for variance in shared]
    freedom = sum((variance / seeds) ** 2 / df for variance, df in parts)
    return min(1 / freedom, (1 + sum(ratios)) ** 2 / (freedom + sum(ratio**2 / LUCK_DF for ratio in ratios)))


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """P-values adjusted for their number by Holm's step-down method (Holm 1979)."""
    # statsmodels' `multipletests` gives the same and is the test's oracle, but collects all garbage at every call, which
    # takes most of a second where torch is loaded.
    adjusted: dict[K, float] = {}
    most = 0.0
    for i, (key, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        most = max(most, min(1.0, (len(p) - i) * value))
        adjusted[key] = most
    return {key: adjusted[key] for key in p}
