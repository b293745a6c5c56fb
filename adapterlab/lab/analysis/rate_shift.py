"""Movement of the best learning rate with a factor: the slope of its logarithm against that of the level.

A chosen rate differs from the best one for two reasons: rates lie on a lattice of a quarter of a decade, which adds the
variance of a uniform distribution of that width, and another search might have chosen another rate
(`adapterlab.lab.analysis.selection`). Both are in the interval. The slope has its own intercept on each task, and the tasks
have equal weights.

>>> points = [Point(2, 1e-2), Point(8, 1e-2), Point(32, 3.2e-3), Point(128, 3.2e-3)]
>>> effect = shift({"prose": [points]})
>>> round(10**effect.mean, 2), round(10**effect.low, 2), round(10**effect.high, 2)
(0.25, 0.16, 0.39)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adapterlab.lab.analysis.cells import Cells
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.pairwise import SIGNIFICANT
from adapterlab.lab.analysis.selection import NO_SELECTION, SELECTION_DF, Selection
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.lr_search import PER_DECADE
from adapterlab.lab.statistics import Component, Paired, average, from_error
from adapterlab.lab.study.sweep import Cell, Level, level_words

QUANTIZATION = Component(1 / PER_DECADE**2 / 12, 1000.0)
"""Variance of the decimal logarithm of a rate within its step of the lattice; known, so with many degrees of freedom."""
PUBLISHED = (
    "Published answers for LoRA differ: the best rate is nearly independent of rank (Schulman et al. 2025, LoRA Without "
    "Regret); it is 1.8 to 5.6 times smaller at rank 128 than at rank 8 (arXiv 2602.04998v2, tables 5, 6, 8, 10, 11 and "
    "13); whether it falls with rank depends on the initialization and the scale (arXiv 2602.06204)."
)
"""Published answers to whether the best rate of LoRA moves with its rank."""


class Point(NamedTuple):
    """Chosen rate at one level."""

    level: float
    rate: float
    noise: float = 0.0
    """Variance of the decimal logarithm of the rate that a repeated search would choose."""


@dataclass(frozen=True)
class RateShift:
    """Movement of one contestant's best rate from the lowest to the highest level of a factor."""

    contestant: str
    factor: str
    low: int
    """Lowest level; of models, the smallest width."""
    high: int
    """Highest level."""
    effect: Paired
    """Decimal logarithm of the factor between the rates at the highest and the lowest level."""
    p: float = 1.0
    """P-value of no movement, adjusted over all factors and contestants (Holm)."""

    @property
    def sentence(self) -> str:
        """Answer in a sentence."""
        named = "width" if self.factor == "model" else self.factor
        low, high = (level_words(named, level) for level in (self.low, self.high))
        times, least, most = (f"{10**value:.2g}" for value in (self.effect.mean, self.effect.low, self.effect.high))
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.2g}"
        if not math.isfinite(self.effect.low):
            return f"{self.contestant}: whether the best rate moves with {named} is not known."
        at_high = f"at {high} it is {times} times that at {low} (95 % interval {least} to {most}; {p}, Holm)"
        if self.p < SIGNIFICANT:
            moves = "rises" if self.effect.mean > 0 else "falls"
            return f"{self.contestant}: the best rate {moves} with {named}: {at_high}."
        return f"{self.contestant}: the best rate is not shown to move with {named}: {at_high}."


def rate_shift(cells: Cells, name: str, factor: str) -> RateShift | None:
    """Return the movement of a contestant's best rate with a factor.

    Args:
        cells: Effects at every cell; all groups of cells that differ by this factor alone are used.
        name: Name of the contestant.
        factor: A factor of the sweep whose levels are numbers, or `model`, whose number is the width.

    Returns:
        The movement; None if the levels have fewer than two numbers, or no task has two rates.
    """
    by_task = points_of(cells, name, factor)
    levels = [point.level for lines in by_task.values() for points in lines for point in points]
    if not levels:
        return None
    return RateShift(name, factor, int(min(levels)), int(max(levels)), shift(by_task))


def points_of(cells: Cells, name: str, factor: str) -> dict[str, list[list[Point]]]:
    """Return the chosen rates of a contestant by task, in groups of cells that differ by one factor alone.

    Args:
        cells: Effects at every cell.
        name: Name of the contestant.
        factor: The factor.

    Returns:
        By task, its groups with two or more levels; no task without one.
    """
    by_task: dict[str, list[list[Point]]] = {}
    for line in cells.lines(factor):
        for task in cells.main.results.study.tasks:
            points = [
                point for level, cell in line.items() if (point := _point(cells, name, task, factor, level, cell))
            ]
            if len({point.level for point in points}) > 1:
                by_task.setdefault(task, []).append(points)
    return by_task


def _point(cells: Cells, name: str, task: str, factor: str, level: Level, cell: Cell) -> Point | None:
    effects = cells.by_cell[cell]
    number = _number(effects.results.contests[name, task], factor, level)
    return None if number is None else point_of(effects, name, task, number)


def point_of(effects: Effects, name: str, task: str, level: float) -> Point | None:
    """Return the chosen rate of a contestant on a task; None if none was searched for.

    Args:
        effects: Effects at a cell.
        name: Name of the contestant.
        task: Name of the task.
        level: Level that the point stands for.
    """
    contest = effects.results.contests.get((name, task))
    if contest is None or contest.rate is None:
        return None
    return Point(level, contest.rate, _choice(effects.selections.get((name, task), NO_SELECTION)))


def _number(contest: Contest, factor: str, level: Level) -> float | None:
    if factor == "model":
        return contest.resolved.width
    rank = getattr(contest.adapter, "rank", None)
    if factor == "rank" and isinstance(rank, int):
        return rank  # smaller than the level where the weights do not allow it
    return level if isinstance(level, int) else None


def _choice(selection: Selection) -> float:
    """Return the variance of the decimal logarithm of the rate over repeated searches."""
    if not selection.shares:
        return 0.0
    x, share = np.log10(list(selection.shares)), np.array(list(selection.shares.values()))
    return float(np.average((x - np.average(x, weights=share)) ** 2, weights=share))


def shift(by_task: Mapping[str, Sequence[Sequence[Point]]]) -> Paired:
    """Return the decimal logarithm of the factor between the best rates at the highest and the lowest level.

    Args:
        by_task: By task, groups of points; each group has an intercept of its own.

    Returns:
        The mean over the tasks, with its interval.
    """
    if not by_task:
        return from_error(math.nan, math.inf, 0, 0)
    levels = [point.level for lines in by_task.values() for points in lines for point in points]
    reach = math.log10(max(levels) / min(levels))
    means, components = [], []
    for lines in by_task.values():
        centred = [
            np.log10([p.level for p in points]) - np.mean(np.log10([p.level for p in points])) for points in lines
        ]
        total = sum(float((x**2).sum()) for x in centred)
        weights = [reach * x / total for x in centred]
        means.append(
            sum(float(w @ np.log10([p.rate for p in points])) for w, points in zip(weights, lines, strict=True))
        )
        parts = [
            (float(weight) ** 2, point)
            for w, points in zip(weights, lines, strict=True)
            for weight, point in zip(w, points, strict=True)
        ]
        components.append(
            [
                *(QUANTIZATION.times(factor) for factor, _ in parts),
                *(Component(point.noise, SELECTION_DF).times(factor) for factor, point in parts),
            ]
        )
    return average(means, components, sum(len(points) for lines in by_task.values() for points in lines))
