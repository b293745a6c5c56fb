"""Racing: reported seeds are given only to contestants for which they can still change the answer.

All contestants at one cell get the first seeds together. After each round, a comparison is open if it is not settled (one
of the two is better, or they are equivalent) but could still be settled at the most favourable outcome of the seeds that are
left. Compared are the leader and the reference with every other contestant. Contestants in no open comparison stop.

The rule looks at test losses as often as it likes. So the analysis of a race uses e-values and confidence sequences
(`adapterlab.lab.statistics.evalues`), whose errors hold whenever one stops.

>>> is_open(Contrast(mean=0.030, noise=1e-6, rows=1e-6, df=20), seeds=2, most=8, pairs=5, smallest=0.005)  # settled
False
>>> is_open(Contrast(mean=0.006, noise=8e-6, rows=1e-6, df=20), seeds=2, most=8, pairs=5, smallest=0.005)
True
>>> is_open(Contrast(mean=0.001, noise=1e-6, rows=9e-6, df=20), seeds=2, most=8, pairs=5, smallest=0.005)  # hopeless
False
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from adapterlab.lab.run.contest import Contest
from adapterlab.lab.statistics import e_value, from_error, row_component, sequence_interval
from adapterlab.lab.trial.spec import FROZEN, Outcome
from adapterlab.tasks.base import Part

ERROR = 0.05
"""Error of all comparisons together at which a comparison counts as settled."""
TYPICAL = 2.0
"""Size of a typical difference between contestants, in smallest differences that matter: half of them are expected to be
smaller. Races, the prior of claims and the power of a study use it."""
FAVOURABLE = 2.0
"""Standard errors by which the seeds that are left may move a mean, at the most favourable."""


class Contrast(NamedTuple):
    """Difference of two contestants over the seeds so far."""

    mean: float
    noise: float
    """Variance of the mean due to the seeds."""
    rows: float
    """Variance of the mean due to the test rows, which more seeds leave as it is."""
    df: float


def is_open(contrast: Contrast, seeds: int, most: int, pairs: int, smallest: float) -> bool:
    """Return True if a comparison is not settled, and further seeds could settle it.

    Args:
        contrast: The difference so far.
        seeds: Seeds so far.
        most: Seeds at most.
        pairs: Comparisons whose error is shared.
        smallest: Smallest difference that matters.
    """
    scale, bound, level = TYPICAL * smallest, pairs / ERROR, 1 - ERROR / pairs

    def settles(mean: float, variance: float, df: float) -> bool:
        effect = from_error(mean, math.sqrt(variance), df, 1)
        low, high = sequence_interval(effect, scale, level)
        return e_value(effect, scale) >= bound or -smallest <= low <= high <= smallest

    if seeds >= most or settles(contrast.mean, contrast.noise + contrast.rows, contrast.df):
        return False
    last = contrast.noise * seeds / most + contrast.rows, contrast.df * (most - 1) / (seeds - 1)
    reach = FAVOURABLE * math.sqrt(contrast.noise)
    return settles(abs(contrast.mean) + reach, *last) or settles(max(0.0, abs(contrast.mean) - reach), *last)


class Race:
    """The contests at one cell on tasks with one unit of loss, and which contestants get another seed.

    Args:
        contests: The contests, with those of the frozen model.
    """

    def __init__(self, contests: Sequence[Contest]) -> None:
        self._contests = contests
        self._by_key = {(contest.contestant, contest.task): contest for contest in contests}
        self._tasks = tuple(dict.fromkeys(contest.task for contest in contests))
        self._decided: dict[int, frozenset[str]] = {}
        self._going = frozenset(contest.contestant for contest in contests) - {FROZEN}

    def goes_on(self, contestant: str, seeds: int) -> bool | None:
        """Return True if a contestant gets another seed on each task.

        Args:
            contestant: Name of the contestant.
            seeds: Number of seeds that it has been reported with.

        Returns:
            The decision; None until all contestants of the race have been reported with that number of seeds.
        """
        if seeds not in self._decided:
            racing = (contest for contest in self._contests if contest.contestant in self._going)
            if not all(contest.finished or len(contest.reported) >= seeds for contest in racing):
                return None
            self._going = self._decided[seeds] = self._next(seeds)
        return contestant in self._decided[seeds]

    def _next(self, seeds: int) -> frozenset[str]:
        """Return the contestants in an open comparison."""
        study = self._contests[0].study
        tables = {name: table for name in sorted(self._going) if (table := self._losses(name, seeds)) is not None}
        ranked = [name for name in tables if study.competes(name)]
        if len(ranked) < 2:
            return frozenset()
        noise, df = _pooled(list(tables.values()))
        leader = min(ranked, key=lambda name: float(tables[name].mean()))
        pairs = {frozenset((name, other)) for name in ranked for other in {leader, study.reference} & set(ranked)}
        compared = [sorted(pair) for pair in pairs if len(pair) == 2]
        found: set[str] = set()
        for a, b in compared:
            mean = float(tables[b].mean() - tables[a].mean())
            contrast = Contrast(mean, noise / seeds, self._rows(a, b), df)
            if is_open(contrast, seeds, len(study.report.seeds), len(compared), study.report.smallest):
                found |= {a, b}
        return frozenset(found)

    def _losses(self, name: str, seeds: int) -> np.ndarray | None:
        """Return test losses averaged over the tasks, by seed; None if it has no runs on some task.

        A run that diverged leaves the user with the frozen model.
        """
        found = []
        for task in self._tasks:
            runs = self._by_key[name, task].reported
            if len(runs) < seeds:
                return None
            frozen = self._frozen(task)
            outcomes = [runs[seed][1] for seed in self._contests[0].study.report.seeds[:seeds]]
            found.append([_loss(frozen if outcome.status == "diverged" else outcome) for outcome in outcomes])
        return np.asarray(np.mean(found, axis=0))

    def _frozen(self, task: str) -> Outcome:
        return self._by_key[FROZEN, task].reported[0][1]

    def _rows(self, a: str, b: str) -> float:
        """Return the variance due to the test rows of the difference of two contestants, averaged over the tasks."""
        found = []
        for task in self._tasks:
            first, second = (_rows(self._by_key[name, task].reported, self._frozen(task)) for name in (a, b))
            if first is not None and second is not None:
                found.append(row_component(first - second).variance)
        return sum(found) / len(self._tasks) ** 2


def _loss(outcome: Outcome) -> float:
    return outcome.scores[Part.TEST][0]


def _rows(runs: Mapping[int, tuple[object, Outcome]], frozen: Outcome) -> np.ndarray | None:
    """Return the losses of the test rows by seed, or None if they were not recorded."""
    outcomes = [frozen if outcome.status == "diverged" else outcome for _, outcome in runs.values()]
    losses = [outcome.rows.get(Part.TEST.value) for outcome in outcomes]
    return None if any(row is None for row in losses) else np.array(losses)


def _pooled(tables: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the variance over seeds of a difference, pooled over all pairs of contestants, and its degrees of freedom."""
    seeds = len(tables[0])
    variances = [float(np.var(a - b, ddof=1)) for a, b in itertools.combinations(tables, 2)]
    return fmean(variances), float((len(tables) - 1) * (seeds - 1))
