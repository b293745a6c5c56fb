"""Ratio of the best learning rates of two contestants, or of one at the ends of a factor that a study sweeps.

Rates lie on a lattice of a quarter of a decade, and another search might have chosen another one: both are in the error.

>>> ratio = between(Chosen(1e-2, 0.0), Chosen(1e-3, 0.0), times=10)
>>> round(ratio.mean, 3), round(ratio.high, 2)
(0.0, 0.2)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.rate_shift import QUANTIZATION, choice, points_of, shift
from adapterlab.lab.analysis.selection import NO_SELECTION, SELECTION_DF
from adapterlab.lab.run.lr_search import PER_DECADE
from adapterlab.lab.statistics import Component, Paired, average
from adapterlab.verdict.forms import Rate
from adapterlab.verdict.measured import MeasuredStudy


class Chosen(NamedTuple):
    """Rate that a search has chosen."""

    rate: float
    noise: float
    """Variance of its decimal logarithm over repeated searches."""


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
    by_task, components = {}, []
    for task in test.tasks:
        found = [_chosen(effects, name, task) for name in test.contestants()]
        if None in found:
            name = test.contestants()[found.index(None)]
            return f"no learning rate was searched for {name} on {task}"
        first, second = (rate for rate in found if rate is not None)
        by_task[task] = between(first, second, test.times)
        components.append(_components(first, second))
    effect = average([each.mean for each in by_task.values()], components, len(by_task))
    # The same ratio read the other way round is the same number.
    claimed = test.times if test.contestants() == tuple(sorted(test.contestants())) else 1 / test.times
    return Ratio(f"ratio of the best rates over {claimed:g}", by_task, effect, (effects.results,))


def between(first: Chosen, second: Chosen, times: float) -> Paired:
    """Return the decimal logarithm of the ratio of two rates over a claimed ratio.

    Args:
        first: Rate of the numerator.
        second: Rate of the denominator.
        times: The claimed ratio.
    """
    return average([math.log10(first.rate / second.rate / times)], [_components(first, second)], 1)


def _components(first: Chosen, second: Chosen) -> list[Component]:
    return [
        part
        for rate in (first, second)
        for part in (QUANTIZATION, Component(rate.noise, SELECTION_DF))
        if part.variance
    ]


def _chosen(effects: Effects, name: str, task: str) -> Chosen | None:
    contest = effects.results.contests.get((name, task))
    if contest is None or contest.rate is None:
        return None
    return Chosen(contest.rate, choice(effects.selections.get((name, task), NO_SELECTION)))


def _along(test: Rate, factor: str, study: MeasuredStudy) -> Ratio | str:
    cells, name = study.cells, test.rate
    if cells is None or factor not in cells.sweep.factors:
        return f"this study does not sweep {'the model' if factor == 'model' else f'the {factor}'}"
    if not cells.responds(name, factor):
        return f"the {factor} of {name} does not change in this study"
    points = {task: lines for task, lines in points_of(cells, name, factor).items() if task in test.tasks}
    if missing := [task for task in test.tasks if task not in points]:
        return f"{name} has no two learning rates along the {factor} on {' and '.join(missing)}"
    claimed = math.log10(test.times)
    by_task = {task: _less(shift({task: lines}), claimed) for task, lines in points.items()}
    results = tuple(effects.results for effects in cells.by_cell.values())
    return Ratio(f"best rate along the {factor} over {test.times:g}", by_task, _less(shift(points), claimed), results)


def _less(effect: Paired, claimed: float) -> Paired:
    return replace(effect, mean=effect.mean - claimed)
