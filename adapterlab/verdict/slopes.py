"""Slope of a gain, or of a lead, over the levels of a factor: its change with ten times the factor.

>>> {level: round(weight, 3) for level, weight in weights({10: 10, 100: 100, 1000: 1000}).items()}
{10: -0.5, 100: 0.0, 1000: 0.5}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.analysis.cells import Cells, line_of
from adapterlab.lab.analysis.contrast import Contrast, Term, difference, gain
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Key, Results
from adapterlab.lab.statistics import Component, Paired, average
from adapterlab.lab.study.spec import FULL_FT
from adapterlab.lab.study.sweep import Cell, Level
from adapterlab.models.listing import listed
from adapterlab.verdict.forms import Trend
from adapterlab.verdict.measured import MeasuredStudy


@dataclass(frozen=True)
class Slope:
    """A slope with its error, positive if the claim points that way."""

    topic: str
    """Name of the number that it is the slope of."""
    numbers: Mapping[Key, float]
    """By task and seed."""
    by_task: Mapping[str, Paired]
    effect: Paired
    """Mean over the tasks."""
    results: tuple[Results, ...]
    """Results that it was computed from."""


def weights(sizes: Mapping[Level, float]) -> dict[Level, float]:
    """Return the weights with which values sum to the least-squares slope over the decimal logarithm of sizes.

    Args:
        sizes: By level, its size; at least two differ.
    """
    logs = {level: math.log10(size) for level, size in sizes.items()}
    middle = fmean(logs.values())
    spread = sum((x - middle) ** 2 for x in logs.values())
    return {level: (x - middle) / spread for level, x in logs.items()}


def slope(test: Trend, study: MeasuredStudy) -> Slope | str:
    """Return the slope that a test is about, or why the study has none.

    Args:
        test: The test, with the names that its contestants have in the study.
        study: The study's effects.
    """
    sign = -1.0 if test.falls else 1.0
    names = test.contestants()
    topic = f"trend of {test.metric} with {test.along}"
    if test.along == "data":
        return _over_data(test, study.effects, sign, topic)
    cells = study.cells
    if cells is None or test.along not in cells.sweep.factors:
        return f"this study does not sweep {_NAMES[test.along]}"
    line = line_of(cells.sweep, test.along)
    if test.along == "model":
        return _over_models(test, cells, line, sign, topic)
    if not any(cells.responds(name, test.along) for name in names):
        return f"{_NAMES[test.along]} of {' and '.join(names)} does not change in this study"
    return _over_levels(test, study, cells, line, sign, topic)


_NAMES = {
    "steps": "the number of steps",
    "rank": "the rank",
    "budget": "the budget",
    "model": "the model",
}


def _over_data(test: Trend, effects: Effects, sign: float, topic: str) -> Slope | str:
    """Return the change of a lead from a tenth of the data to all of it; the frozen model's loss is in neither."""
    names = dict(zip(test.contestants(), (1.0, -1.0), strict=False))
    if not all(effects.values(name, "tenth_of_data", test.tasks) for name in names):
        return "this study did not measure the loss after a tenth of the data (report.tenth_of_data)"
    terms = [Term(name, "in_domain", -sign * weight) for name, weight in names.items()]
    terms += [Term(name, "tenth_of_data", sign * weight) for name, weight in names.items()]
    return _of_contrast(Contrast(tuple(terms)), effects, test, topic, (effects.results,))


def _over_levels(
    test: Trend, study: MeasuredStudy, cells: Cells, line: Mapping[Level, Cell], sign: float, topic: str
) -> Slope | str:
    """Return the slope over cells with one model, whose runs are paired by seed and by test row."""
    pool = study.pool(cells, test.metric)
    each = weights({level: float(level) for level in line if isinstance(level, int)})
    signs = zip(test.contestants(), (sign, -sign), strict=False)
    contrast = pool.contrast({(name, line[lv]): own * w for name, own in signs for lv, w in each.items()})
    return _of_contrast(
        contrast, pool.effects, test, topic, tuple(cells.by_cell[cell].results for cell in line.values())
    )


def _of_contrast(contrast: Contrast, effects: Effects, test: Trend, topic: str, results: tuple[Results, ...]) -> Slope:
    numbers = effects.numbers(contrast, test.tasks)
    return Slope(topic, numbers, effects.by_task(contrast, test.tasks), effects.estimate(contrast, test.tasks), results)


def _over_models(test: Trend, cells: Cells, line: Mapping[Level, Cell], sign: float, topic: str) -> Slope | str:
    """Return the slope over models, whose runs are independent: they share neither weights nor the cuts of the text."""
    found = {level: cells.by_cell[cell] for level, cell in line.items()}
    sizes = {level: _parameters(level, effects) for level, effects in found.items()}
    if unknown := [str(level) for level, size in sizes.items() if not size]:
        return f"the size of {' and '.join(unknown)} is not known, since full fine-tuning did not run"
    if len(set(sizes.values())) < 2:
        return "the models of this study have one size"
    each = {level: sign * weight for level, weight in weights(sizes).items()}
    a, *b = test.contestants()
    contrast = difference(a, b[0], test.metric) if b else gain(a, test.metric)
    numbers = [
        {key: each[level] * number for key, number in effects.numbers(contrast, test.tasks).items()}
        for level, effects in found.items()
    ]
    shared = [key for key in numbers[0] if all(key in table for table in numbers)]
    total = {key: sum(table[key] for table in numbers) for key in shared}
    by_level = {level: effects.by_task(contrast, test.tasks) for level, effects in found.items()}
    tasks = [task for task in test.tasks if all(task in effects for effects in by_level.values())]
    means, parts = [], []
    for task in tasks:
        means.append(sum(each[level] * effects[task].mean for level, effects in by_level.items()))
        parts.append(
            [Component((each[lv] * effects[task].error) ** 2, effects[task].df) for lv, effects in by_level.items()]
        )
    by_task = {
        task: average([mean], [components], sum(key[0] == task for key in shared))
        for task, mean, components in zip(tasks, means, parts, strict=True)
    }
    if not tasks:
        return f"{' and '.join(test.contestants())} did not run with each model"
    results = tuple(effects.results for effects in found.values())
    return Slope(topic, total, by_task, average(means, parts, len(total)), results)


def _parameters(level: Level, effects: Effects) -> float:
    """Return the number of parameters of a model, by full fine-tuning or the list of models; 0 if neither knows."""
    full = effects.values(FULL_FT, "parameters")
    return max(full.values(), default=0.0) or next((e.parameters for e in listed() if e.name == level), 0)
