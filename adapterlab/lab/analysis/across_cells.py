"""Difference from the reference on a fresh task, by a mixed model over all cells and tasks of a study.

The values are the differences on each task at each cell, with their errors. Steps, rank and budget have slopes per doubling,
each set of targets other than the main one has an effect of its own, and tasks (and models, if several were measured) have
random effects. The prediction is the difference at the main cell on another task like these. The errors of one contestant at
several cells are taken as independent; the test rows that they share become a part of the effect of the task.

>>> design, names = design_matrix([Cell((("steps", 20),)), Cell((("steps", 80),))], Cell((("steps", 80),)))
>>> names, design.tolist()
(('main', 'steps'), [[1.0, -2.0], [1.0, 0.0]])
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapterlab.lab.analysis.cells import METRIC, Cells
from adapterlab.lab.analysis.contrast import difference
from adapterlab.lab.statistics import Paired
from adapterlab.lab.statistics.mixed import fit_mixed, spread
from adapterlab.lab.study.sweep import RISING, Cell, level_name


@dataclass(frozen=True)
class Prediction:
    """Difference of one contestant from the reference, over all cells and tasks."""

    contestant: str
    fresh: Paired
    """Difference on a fresh task at the main cell, with its prediction interval."""
    mean: Paired
    """Mean difference over tasks like these at the main cell."""
    slopes: Mapping[str, Paired]
    """Change of the difference per doubling of steps, rank or budget, or from the main targets to others."""
    between_tasks: float
    """Standard deviation of the difference between tasks."""
    between_models: float
    """The same between models; nan if one was measured."""
    values: int
    """Number of differences, one for each cell and task."""


def predict(cells: Cells, name: str) -> Prediction | None:
    """Predict the difference of a contestant from the reference on a fresh task at the main cell.

    Args:
        cells: Effects at every cell.
        name: Name of the contestant.

    Returns:
        The prediction; None with fewer than two tasks, or with too few differences of known error for the model.
    """
    found: list[tuple[Cell, str, Paired]] = []
    for cell, effects in cells.by_cell.items():
        by_task = effects.by_task(difference(name, cells.main.results.study.reference, METRIC))
        found += [(cell, task, effect) for task, effect in by_task.items() if math.isfinite(effect.error)]
    tasks = {task for _, task, _ in found}
    fixed, names = design_matrix([cell for cell, _, _ in found], cells.sweep.main)
    if len(tasks) < 2 or np.linalg.matrix_rank(fixed) < fixed.shape[1]:
        return None
    groups = {
        "task": [task for _, task, _ in found],
        "model": [str(cell.by_factor.get("model", "")) for cell, _, _ in found],
    }
    means, errors = (np.array([getattr(effect, key) for _, _, effect in found]) for key in ("mean", "error"))
    fit = fit_mixed(means, errors**2, fixed, groups)
    df, rows = min(max(1.0, effect.df) for _, _, effect in found), np.eye(len(names))
    return Prediction(
        name,
        fit.predict(rows[0], df),
        fit.estimate(rows[0], df),
        {label: fit.estimate(row, df) for label, row in zip(names[1:], rows[1:], strict=True)},
        spread(fit, "task"),
        spread(fit, "model"),
        len(found),
    )


def design_matrix(cells: Sequence[Cell], main: Cell) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the fixed part of the model, one row for each cell.

    Args:
        cells: A cell for each value.
        main: The main cell, at which only the first coefficient counts.

    Returns:
        The matrix and the names of its columns: `main`, then a factor or a set of targets.
    """
    columns = {"main": [1.0] * len(cells)}
    for factor, level in main.levels:
        if factor in RISING:
            columns[factor] = [math.log2(float(str(cell.by_factor[factor])) / float(str(level))) for cell in cells]
        elif factor == "targets":
            for other in dict.fromkeys(cell.by_factor[factor] for cell in cells):
                if other != level:
                    columns[f"targets {level_name(other)}"] = [float(cell.by_factor[factor] == other) for cell in cells]
    return np.array(list(columns.values())).T, tuple(columns)
