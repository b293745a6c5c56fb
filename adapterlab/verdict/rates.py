"""Ratio of the best learning rates of two contestants, or of one at the ends of a factor that a study sweeps.

Both are the movement of a rate between levels (`adapterlab.lab.analysis.rate_shift`): two contestants are two levels.

>>> ratio = shift({"prose": [[Point(1, 1e-3), Point(10, 1e-2)]]})
>>> round(ratio.mean, 3), round(ratio.high, 2)
(1.0, 1.2)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.rate_shift import Point, point_of, points_of, shift
from adapterlab.lab.run.lr_search import PER_DECADE
from adapterlab.lab.statistics import Paired
from adapterlab.verdict.forms import Rate
from adapterlab.verdict.measured import MeasuredStudy


@dataclass(frozen=True)
class Ratio:
    """Decimal logarithm of a ratio of rates over the claimed one."""

    topic: str
    """Name of the number."""
    by_task: Mapping[str, Paired]
    effect: Paired
    """Mean over the tasks."""
    results: tuple[Results, ...]
    """Results that it was computed from."""
    smallest: float = 1 / PER_DECADE
    """Smallest value that matters: a step of the lattice, in decades."""


def rate_ratio(test: Rate, study: MeasuredStudy) -> Ratio | str:
    """Return the ratio that a test is about, or why the study has none.

    Args:
        test: The test, with the names that its contestants have in the study.
        study: The study's effects.
    """
    return _along(test, test.along, study) if test.along is not None else _of_two(test, study.effects)


def _of_two(test: Rate, effects: Effects) -> Ratio | str:
    first, second = test.contestants()
    points = {
        task: [point_of(effects, name, task, at) for name, at in ((second, 1), (first, 10))] for task in test.tasks
    }
    for task, found in points.items():
        if None in found:
            name = (second, first)[found.index(None)]
            return f"no learning rate was searched for {name} on {task}"
    # The same ratio read the other way round is the same number.
    claimed = test.times if first < second else 1 / test.times
    lines = {task: [[point for point in found if point is not None]] for task, found in points.items()}
    return _over(f"ratio of the best rates over {claimed:g}", lines, test.times, (effects.results,))


def _along(test: Rate, factor: str, study: MeasuredStudy) -> Ratio | str:
    cells, name = study.cells, test.rate
    if cells is None or factor not in cells.sweep.factors:
        return f"this study does not sweep {'the model' if factor == 'model' else f'the {factor}'}"
    if not cells.responds(name, factor):
        return f"the {factor} of {name} does not change in this study"
    points = {task: lines for task, lines in points_of(cells, name, factor).items() if task in test.tasks}
    if missing := [task for task in test.tasks if task not in points]:
        return f"{name} has no two learning rates along the {factor} on {' and '.join(missing)}"
    results = tuple(effects.results for effects in cells.by_cell.values())
    return _over(f"best rate along the {factor} over {test.times:g}", points, test.times, results)


def _over(
    topic: str, points: Mapping[str, Sequence[Sequence[Point]]], times: float, results: tuple[Results, ...]
) -> Ratio:
    """Return the ratio of the rates at the ends of groups of points, over a claimed one."""
    by_task = {task: _less(shift({task: lines}), math.log10(times)) for task, lines in points.items()}
    return Ratio(topic, by_task, _less(shift(points), math.log10(times)), results)


def _less(effect: Paired, claimed: float) -> Paired:
    return replace(effect, mean=effect.mean - claimed)
