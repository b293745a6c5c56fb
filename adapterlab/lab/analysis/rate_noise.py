"""Noise of a run's validation loss about a smooth function of the learning rate.

>>> table = [[1.00, 1.10], [1.02, 1.08]]  # two rates with the same two seeds
>>> Residuals.of(table)
Residuals(squares=0.0004..., df=1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.trial.spec import FROZEN


@dataclass(frozen=True)
class Residuals:
    """Residuals of a two-way layout."""

    squares: float = 0.0
    """Their sum of squares."""
    df: int = 0
    """Their degrees of freedom."""

    @classmethod
    def of(cls, table: Sequence[Sequence[float]]) -> Residuals:
        """Return the residuals about the means of rows and columns.

        Args:
            table: At least one row and one column.
        """
        values = np.array(table)
        rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
        return cls(float((rest**2).sum()), (values.shape[0] - 1) * (values.shape[1] - 1))

    def __add__(self, other: Residuals) -> Residuals:
        return Residuals(self.squares + other.squares, self.df + other.df)


def rate_noise(results: Results, task: str) -> float:
    """Return the standard deviation of a run's validation loss about a function of the rate, with one seed.

    Runs with one seed share their batches, so they vary less about their curve than runs with several seeds do. It is
    estimated from searches with two rungs; if there are none, from the runs that measure the regret; if there are none
    either, from the reported runs, in which it cannot be told from what a seed does to each contestant.

    Args:
        results: Finished contests; all contestants' on the task are pooled.
        task: Name of the task.

    Returns:
        The standard deviation at full length, without contestants that learn less than a quarter of what the best does; 0
        if there are no such runs.
    """
    frozen = results.frozen(task).validation
    contests = [c for (name, where), c in results.contests.items() if where == task and name != FROZEN]
    gains = {contest.contestant: frozen - _best_at_full_length(contest) for contest in contests}
    learned = max(gains.values(), default=0.0)
    learners = [contest for contest in contests if gains[contest.contestant] > max(0.0, learned / 4)]
    for of in (_over_rungs, _over_regret):
        found = sum((of(contest, frozen) for contest in learners), Residuals())
        if found.df:
            return math.sqrt(found.squares / found.df)
    found = _over_reports(learners)
    return math.sqrt(found.squares / found.df) if found.df else 0.0


def _best_at_full_length(contest: Contest) -> float:
    """Return the smallest validation loss of the second rung, or of the reported runs without one."""
    runs = [*contest.second.values()] or [*contest.reported.values()]
    return min((outcome.validation for _, outcome in runs), default=math.inf)


def _over_rungs(contest: Contest, frozen: float) -> Residuals:
    """Compare the difference of the two best rates of the second rung with that of the first at the scale of the gain.

    The two rungs have different seeds; the differences would be equal without noise.
    """
    first, second = _gains(contest, frozen)
    both = sorted(set(first) & set(second), key=lambda lr: -second[lr])[:2]
    if len(both) < 2 or max(first.values()) <= 0:
        return Residuals()
    scale = max(second.values()) / max(first.values())
    apart = (second[both[0]] - second[both[1]]) - scale * (first[both[0]] - first[both[1]])
    return Residuals(apart**2 / (2 * (1 + scale**2)), 1)


def _over_regret(contest: Contest, frozen: float) -> Residuals:
    """Return the residuals of rates by seeds, without rates that diverged or learned nothing."""
    table = [[outcome.validation for _, outcome in runs.values()] for runs in contest.beside.values()]
    return _of_finite([row for row in table if max(row) < frozen])


def _over_reports(contests: Sequence[Contest]) -> Residuals:
    """Return the residuals of contestants by the seeds that all of them were reported with."""
    seeds = set.intersection(*(set(contest.reported) for contest in contests)) if contests else set()
    return _of_finite([[c.reported[seed][1].validation for seed in sorted(seeds)] for c in contests])


def _of_finite(table: Sequence[Sequence[float]]) -> Residuals:
    rows = [row for row in table if row and all(map(math.isfinite, row))]
    return Residuals.of(rows) if len({len(row) for row in rows}) == 1 else Residuals()


def _gains(contest: Contest, frozen: float) -> tuple[dict[float, float], dict[float, float]]:
    """Return by rate the gains of the runs of the first and of the second rung that did not diverge."""
    first, second = (
        {lr: frozen - outcome.validation for lr, (_, outcome) in rung.items() if math.isfinite(outcome.validation)}
        for rung in (contest.first, contest.second)
    )
    return first, second
