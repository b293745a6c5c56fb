"""Comparison at equal learning: what two contestants forget, or keep out-of-domain, at the same in-domain gain.

A contestant that learns more forgets more, so the end points of two contestants are not comparable. A contestant passes
through every smaller gain on its way: along the strength path, by a reduced strength of the trained adapter, and along
training, at an earlier step. The one with the larger final gain is taken back along its path to the gain of the other, seed
by seed.

>>> path = Path(((0.0, 0.0, 0.0), (0.5, 0.03, 0.01), (1.0, 0.06, 0.04)))  # position, gain and forgetting
>>> round(path.at_gain(0.045), 4)
0.0225
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from statistics import fmean

import numpy as np
from scipy.interpolate import CubicSpline

from adapterlab.lab.analysis.effects import Effects, residual_df
from adapterlab.lab.analysis.metrics import Key, Results, path_of, training_of
from adapterlab.lab.analysis.selection import NO_SELECTION, SELECTION_DF
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


class Along(StrEnum):
    """Ways back to a smaller gain."""

    STRENGTH = "strength"
    """Reduced strengths of the trained adapter."""
    TRAINING = "training"
    """Earlier steps of the training."""


METRIC_OF = {Part.BASE: "forgetting", Part.OOD: "out_of_domain"}
"""Metrics that are compared at equal learning, by the part of the task that they are measured on."""


@dataclass(frozen=True)
class Path:
    """The way of one run from the frozen model to its end."""

    points: tuple[tuple[float, float, float], ...]
    """Position from 0 to 1, in-domain gain, and rise of the loss on another part; at least three."""

    @property
    def gain(self) -> float:
        """Gain at the end."""
        return self.points[-1][1]

    @cached_property
    def _curves(self) -> tuple[CubicSpline, CubicSpline]:
        positions, gains, losses = np.array(self.points).T
        return CubicSpline(positions, gains), CubicSpline(positions, losses)

    def at_gain(self, gain: float) -> float:
        """Return the rise of the other loss where the path first reaches a gain.

        Both are interpolated by cubic splines (by parabolas for three points): straight lines between a few positions would
        overstate the rise within the path, which grows faster than the strength.

        Args:
            gain: The gain, at most that at the end.
        """
        gains, losses = self._curves
        end = self.points[-1][0]
        reached = [float(x) for x in gains.solve(gain, extrapolate=False) if self.points[0][0] <= x <= end]
        return float(losses(min(reached, default=end)))

    def moved(self, gain: float, rise: float) -> Path:
        """Return the path of a run that ends elsewhere; each point moves in proportion to its position.

        Args:
            gain: Change of the gain at the end.
            rise: Change of the other loss at the end.
        """
        return Path(tuple((x, own + x * gain, other + x * rise) for x, own, other in self.points))


def difference_at_equal_gain(mine: Path, theirs: Path) -> float | None:
    """Return how much less one path raises the other loss than another does, at the smaller one of their final gains.

    Args:
        mine: Path of a contestant.
        theirs: Path of another.

    Returns:
        The difference; None if one of them gains nothing.
    """
    gain = min(mine.gain, theirs.gain)
    return theirs.at_gain(gain) - mine.at_gain(gain) if gain > 0 else None


@dataclass(frozen=True)
class Matched:
    """Differences between contestants in another loss at equal in-domain gain."""

    effects: Effects
    part: Part
    """Part of the task that the other loss is on: `BASE` for forgetting, or `OOD`."""
    paths: Mapping[tuple[str, Key], Path]
    """By contestant and by task and seed, the path of the run."""
    numbers: Mapping[tuple[str, str], Mapping[Key, float]]
    """By pair of contestants, the difference by task and seed; positive if the first raises the other loss less."""
    priors: Mapping[str, VariancePrior]
    """By task, the variances over seeds of the differences of all pairs."""
    pooled_df: Mapping[str, int]
    """By task, the degrees of freedom of all residuals."""
    _selected: dict[tuple[str, str, str], float] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, effects: Effects, part: Part = Part.BASE, along: Along = Along.STRENGTH) -> Matched:
        """Compare all pairs of contestants that have paths.

        Args:
            effects: Effects estimated from finished contests.
            part: Part of the task that the other loss is on.
            along: Way back to a smaller gain.

        Returns:
            The differences of every pair, by task and seed.
        """
        results, names = effects.results, effects.results.contestants
        paths = {
            (name, (task, seed)): path
            for name in names
            for task in results.study.tasks
            for seed, path in _paths(results, name, task, part, along).items()
        }
        numbers: dict[tuple[str, str], dict[Key, float]] = {}
        for a, b in itertools.combinations(names, 2):
            both = [key for who, key in paths if who == a and (b, key) in paths]
            found = {key: difference_at_equal_gain(paths[a, key], paths[b, key]) for key in both}
            numbers[a, b] = {key: number for key, number in found.items() if number is not None}
            numbers[b, a] = {key: -number for key, number in numbers[a, b].items()}
        spread: dict[str, list[float]] = {}
        df: dict[str, list[int]] = {}
        freedom: dict[str, int] = {}
        for task in results.study.tasks:
            pairs = itertools.combinations(names, 2)
            values = [[d for (where, _), d in numbers[pair].items() if where == task] for pair in pairs]
            spread[task] = [float(np.var(found, ddof=1)) for found in values if len(found) > 1]
            df[task] = [len(found) - 1 for found in values if len(found) > 1]
            freedom[task] = residual_df([sum(who == name and key[0] == task for who, key in paths) for name in names])
        return cls(effects, part, paths, numbers, fit_priors(spread, df), freedom)

    def compare(self, a: str, b: str, tasks: Sequence[str] | None = None) -> Paired:
        """Estimate the difference at equal in-domain gain; positive if `a` raises the other loss less.

        Args:
            a: Name of a contestant.
            b: Name of another.
            tasks: Tasks; all of the results if None.

        Returns:
            The estimate; its error is unknown with fewer than two seeds on a task.
        """
        own = self._by_task(a, b)
        by_task = own if tasks is None else {task: own[task] for task in tasks if task in own}
        count = sum(map(len, by_task.values()))
        means = [fmean(values) for values in by_task.values()]
        if not by_task or any(len(values) < 2 for values in by_task.values()):
            return from_error(fmean(means) if means else math.nan, math.inf, 0, count)
        found = average(means, [self._components(a, b, task, values) for task, values in by_task.items()], count)
        report = self.effects.results.study.report
        return at_any_time(found, TYPICAL * report.smallest) if report.racing else found

    def by_task(self, a: str, b: str) -> dict[str, Paired]:
        """Estimate the difference on each task; positive if `a` raises the other loss less.

        Args:
            a: Name of a contestant.
            b: Name of another.

        Returns:
            By task, the estimate; tasks with fewer than two seeds are left out.
        """
        return {
            task: average([fmean(values)], [self._components(a, b, task, values)], len(values))
            for task, values in self._by_task(a, b).items()
            if len(values) > 1
        }

    def _by_task(self, a: str, b: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = defaultdict(list)
        for (task, _), number in self.numbers.get((a, b), {}).items():
            found[task].append(number)
        return found

    def _components(self, a: str, b: str, task: str, values: Sequence[float]) -> list[Component]:
        prior, most = self.priors.get(task, NO_PRIOR), self.pooled_df.get(task, 0)
        variance, df = prior.combine(float(np.var(values, ddof=1)), len(values) - 1, most)
        selected = [Component(self._selection(*pair, task), SELECTION_DF) for pair in ((a, b), (b, a))]
        return [Component(variance / len(values), df), *selected]

    def _selection(self, name: str, other: str, task: str) -> float:
        """Return the variance that another search for the rate of `name` would add."""
        if (name, other, task) not in self._selected:
            self._selected[name, other, task] = self._selected_again(name, other, task)
        return self._selected[name, other, task]

    def _selected_again(self, name: str, other: str, task: str) -> float:
        """Compute that variance.

        At another rate the runs would have ended at another gain and another loss; the difference is computed again with
        their paths moved there.
        """
        selection = self.effects.selections.get((name, task), NO_SELECTION)
        chosen = self.effects.results.contests[name, task].rate
        learned, rises = (selection.responses.get(metric) for metric in ("in_domain", METRIC_OF[self.part]))
        if chosen is None or learned is None or rises is None:
            return 0.0
        keys = [key for key in self.numbers[name, other] if key[0] == task]
        found, weights = [], []
        for rate, share in selection.shares.items():
            gain, rise = learned(chosen) - learned(rate), rises(rate) - rises(chosen)
            moved = [
                difference_at_equal_gain(self.paths[name, key].moved(gain, rise), self.paths[other, key])
                for key in keys
            ]
            if numbers := [number for number in moved if number is not None]:
                found.append(fmean(numbers))
                weights.append(share)
        if not found:
            return 0.0
        mean = float(np.average(found, weights=weights))
        return float(np.average((np.array(found) - mean) ** 2, weights=weights))


def _paths(results: Results, contestant: str, task: str, part: Part, along: Along) -> dict[int, Path]:
    """Return by seed the path of each run that was scored along it on the part, up to its end."""
    contest = results.contests.get((contestant, task))
    found: dict[int, Path] = {}
    for seed, (_, outcome) in contest.reported.items() if contest is not None else ():
        if contest is None or outcome.status != "ok" or not outcome.path:
            continue
        read = path_of if along == Along.STRENGTH else training_of
        points = {x: scores for x, scores in read(results, contest, seed).items() if x <= 1 and part in scores}
        if len(points) > 2:
            start = points[0.0]
            found[seed] = Path(
                tuple(
                    (x, start[Part.TEST][0] - scores[Part.TEST][0], scores[part][0] - start[part][0])
                    for x, scores in points.items()
                )
            )
    return found
