"""Tuning regret: how much better the reported runs would have been at a neighbouring learning rate.

For a sample of contestants, the chosen rate and the two rates beside it are trained at full length with seeds that neither
the search nor the report uses. Taking the best of several noisy means would show a regret even where there is none, so
the best rate is picked on all seeds but one, and compared with the chosen rate on that one (cross-validation). Where the
chosen rate is best, an unlucky pick makes the regret a little negative; it is shown as 0.

>>> losses = {0.0056: {201: 1.10, 202: 1.11}, 0.01: {201: 1.08, 202: 1.09}, 0.018: {201: 1.07, 202: 1.085}}
>>> {seed: round(value, 3) for seed, value in cross_validated(losses, chosen=0.01).items()}
{201: 0.01, 202: 0.005}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, variance

from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.lr_search import neighbours


@dataclass(frozen=True)
class Regret:
    """Regret of one contestant, over its tasks, in the unit of the loss.

    >>> Regret(-0.0004, 0.001).floored
    0.0
    """

    mean: float
    """Validation loss at the chosen rate less that at the better neighbour, 0 if the chosen rate is best. Chance can make
    it negative; it is infinite if the chosen rate diverged."""
    error: float
    """Its standard error."""

    @property
    def floored(self) -> float:
        """The mean, or 0 if it is negative."""
        return max(0.0, self.mean)


def cross_validated(losses: Mapping[float, Mapping[int, float]], chosen: float) -> dict[int, float]:
    """Return by seed the loss at the chosen rate less that at the rate which is best on the other seeds.

    A neighbour that diverged with any seed is not an alternative. If the chosen rate diverged and a neighbour did not, the
    differences are infinite.

    Args:
        losses: By learning rate and seed, the loss; infinite where training diverged.
        chosen: The chosen rate.
    """
    own = losses[chosen]
    steady = {rate: runs for rate, runs in losses.items() if math.inf not in runs.values()}
    if chosen not in steady:
        return dict.fromkeys(own, math.inf if steady else 0.0)
    differences = {}
    for seed in own:
        others = {rate: fmean(loss for s, loss in runs.items() if s != seed) for rate, runs in steady.items()}
        best = min(others, key=lambda rate: (others[rate], rate != chosen))
        differences[seed] = own[seed] - losses[best][seed]
    return differences


def regret_of(contests: Iterable[Contest]) -> Regret | None:
    """Return the regret of a contestant over its tasks, with equal weights; None if it was not measured.

    Args:
        contests: The contestant's contests, one for each task.
    """
    by_task = [
        list(cross_validated(_losses(contest), contest.rate).values())
        for contest in contests
        if contest.rate is not None and contest.rate in contest.beside
    ]
    if not by_task:
        return None
    mean = fmean(fmean(values) for values in by_task)
    if not math.isfinite(mean):
        return Regret(mean, math.nan)
    return Regret(mean, math.sqrt(sum(variance(values) / len(values) for values in by_task)) / len(by_task))


def _losses(contest: Contest) -> dict[float, dict[int, float]]:
    assert contest.rate is not None
    low, high = neighbours(contest.rate)
    return {
        rate: {seed: outcome.validation for seed, (_, outcome) in contest.beside[rate].items()}
        for rate in (low, contest.rate, high)
    }
