"""Comparison at equal learning: what two contestants forget, or keep out-of-domain, at the same in-domain gain.

A contestant that learns more forgets more, so the end points of two contestants are not comparable. Each trained adapter
reaches every smaller gain by a reduced strength; the contestant with the larger gain is taken back along its path to the
gain of the other, seed by seed.

>>> path = [(0.0, 0.0, 0.0), (0.5, 0.03, 0.01), (1.0, 0.06, 0.04)]  # strength, gain and forgetting
>>> round(at_gain(path, 0.045), 4)
0.0225
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.interpolate import CubicSpline

from adapterlab.lab.analysis.effects import Effects, residual_df
from adapterlab.lab.analysis.metrics import Key, Results, path_of
from adapterlab.lab.analysis.selection import LESS_FORGETTING, NO_SELECTION, Selection
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.statistics import (
    NO_PRIOR,
    Component,
    Paired,
    VariancePrior,
    at_any_time,
    average,
    fit_priors,
    from_error,
)
from adapterlab.tasks.base import Part

Path = Sequence[tuple[float, float, float]]
"""Strength, gain and forgetting along a strength path, from strength 0 to 1."""


@dataclass(frozen=True)
class Matched:
    """Differences in forgetting at equal in-domain gain."""

    numbers: Mapping[tuple[str, str], Mapping[Key, float]]
    """By pair of contestants, the difference by task and seed; positive if the first forgets less."""
    priors: Mapping[str, VariancePrior]
    """By task, the variances over seeds of the differences of all pairs."""
    pooled_df: Mapping[str, int]
    """By task, the degrees of freedom of all residuals."""
    selections: Mapping[tuple[str, str], Selection]
    """By contestant and task, the rates that a repeated search would select."""
    scale: float = 0.0
    """In a race, the size of a typical difference; else 0."""

    @classmethod
    def of(cls, effects: Effects) -> Matched:
        """Compare all pairs of contestants whose paths were scored.

        Args:
            effects: Effects estimated from finished contests.

        Returns:
            The differences of every pair, by task and seed.
        """
        results = effects.results
        paths = {
            (name, (task, seed)): path
            for name in results.contestants
            for task in results.study.tasks
            for seed, path in _paths(results, name, task).items()
        }
        keys = {name: [key for who, key in paths if who == name] for name in results.contestants}
        numbers = {
            (a, b): {
                key: found
                for key in keys[a]
                if (b, key) in paths and (found := difference_at_equal_gain(paths[a, key], paths[b, key])) is not None
            }
            for a, b in itertools.permutations(results.contestants, 2)
        }
        spread: dict[str, list[float]] = {}
        df: dict[str, list[int]] = {}
        for task in results.study.tasks:
            pairs = itertools.combinations(results.contestants, 2)
            values = [[d for (where, _), d in numbers[pair].items() if where == task] for pair in pairs]
            spread[task] = [float(np.var(found, ddof=1)) for found in values if len(found) > 1]
            df[task] = [len(found) - 1 for found in values if len(found) > 1]
        priors = fit_priors(spread, df)
        freedom = {
            task: residual_df([len(_paths(results, name, task)) for name in results.contestants]) for task in spread
        }
        study = results.study
        scale = TYPICAL * study.report.smallest if study.report.racing else 0.0
        return cls(numbers, priors, freedom, effects.selections, scale)

    def compare(self, a: str, b: str) -> Paired:
        """Estimate the difference in forgetting at equal in-domain gain; positive if `a` forgets less.

        Args:
            a: Name of a contestant.
            b: Name of another.

        Returns:
            The estimate; its error is unknown with fewer than two seeds on a task.
        """
        by_task = self._by_task(a, b)
        count = sum(map(len, by_task.values()))
        means = [fmean(values) for values in by_task.values()]
        if not by_task or any(len(values) < 2 for values in by_task.values()):
            return from_error(fmean(means) if means else math.nan, math.inf, 0, count)
        found = average(means, [self._components((a, b), task, values) for task, values in by_task.items()], count)
        return at_any_time(found, self.scale) if self.scale else found

    def by_task(self, a: str, b: str) -> dict[str, Paired]:
        """Estimate the difference on each task; positive if `a` forgets less.

        Args:
            a: Name of a contestant.
            b: Name of another.

        Returns:
            By task, the estimate; tasks with fewer than two seeds are left out.
        """
        return {
            task: average([fmean(values)], [self._components((a, b), task, values)], len(values))
            for task, values in self._by_task(a, b).items()
            if len(values) > 1
        }

    def _by_task(self, a: str, b: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = defaultdict(list)
        for (task, _), number in self.numbers.get((a, b), {}).items():
            found[task].append(number)
        return found

    def _components(self, names: tuple[str, str], task: str, values: Sequence[float]) -> list[Component]:
        prior, most = self.priors.get(task, NO_PRIOR), self.pooled_df.get(task, 0)
        variance, df = prior.combine(float(np.var(values, ddof=1)), len(values) - 1, most)
        selected = [self.selections.get((name, task), NO_SELECTION) for name in names]
        return [Component(variance / len(values), df), *(each.component({LESS_FORGETTING: 1.0}) for each in selected)]


def difference_at_equal_gain(mine: Path, theirs: Path) -> float | None:
    """Return how much less one path forgets than another at the smaller one of their final gains; None if there is no gain.

    Args:
        mine: Path of a contestant.
        theirs: Path of another.
    """
    gain = min(mine[-1][1], theirs[-1][1])
    if gain <= 0:
        return None
    return at_gain(theirs, gain) - at_gain(mine, gain)


def at_gain(path: Path, gain: float) -> float:
    """Return the forgetting where a path first reaches a gain.

    Gain and forgetting are interpolated in the strength by cubic splines (by parabolas for three points): straight lines
    between a few strengths would overstate the forgetting within the path, which grows faster than the strength.

    Args:
        path: Strength, gain and forgetting from strength 0 to 1; its last gain is at least `gain`.
        gain: The gain.
    """
    strengths, gains, forgotten = np.array(path).T
    curve = CubicSpline(strengths, gains)
    reached = [float(s) for s in curve.solve(gain, extrapolate=False) if strengths[0] <= s <= strengths[-1]]
    return float(CubicSpline(strengths, forgotten)(min(reached, default=float(strengths[-1]))))


def _paths(results: Results, contestant: str, task: str) -> dict[int, Path]:
    """Return by seed the path of each run that was scored along it, up to full strength."""
    contest = results.contests.get((contestant, task))
    if contest is None:
        return {}
    found: dict[int, Path] = {}
    for seed, (_, outcome) in contest.reported.items():
        points = path_of(results, contest, seed) if outcome.status == "ok" and outcome.path else {}
        wanted = {strength: scores for strength, scores in points.items() if strength <= 1 and Part.BASE in scores}
        if len(wanted) > 2:
            start = wanted[0.0]
            found[seed] = [
                (strength, start[Part.TEST][0] - scores[Part.TEST][0], scores[Part.BASE][0] - start[Part.BASE][0])
                for strength, scores in wanted.items()
            ]
    return found
