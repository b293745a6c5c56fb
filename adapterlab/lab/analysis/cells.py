"""Effects at all cells of a study, and contrasts between contestants at different cells.

Contestants at different cells are compared as contestants of one study are: the same seeds, tasks and test rows are paired,
the variance over seeds is moderated by that of all other pairs, and the selection of each rate is added.

>>> from adapterlab.lab.study.sweep import Sweep
>>> line_of(Sweep(rank=(2, 8, 32), steps=(20, 40)), "rank")[2].words
'40 steps, rank 2'
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from adapterlab.lab.analysis.contrast import Contrast, combination
from adapterlab.lab.analysis.effects import Effects, variance_priors
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.statistics import Paired, from_error
from adapterlab.lab.study.spec import Contestant
from adapterlab.lab.study.sweep import Cell, Level, Sweep

METRIC = "in_domain"
"""Metric whose response to the factors is analysed."""
Place = tuple[str, Cell]
"""A contestant at a cell."""


def line_of(sweep: Sweep, factor: str) -> dict[Level, Cell]:
    """Return the cells that differ from the main cell by one factor alone.

    Args:
        sweep: The sweep.
        factor: A factor that it has.

    Returns:
        By level in the order of the study, the cell.
    """
    by_level = {
        cell.by_factor[factor]: cell for cell in sweep.cells if cell.without(factor) == sweep.main.without(factor)
    }
    return {level: by_level[level] for level in sweep.factors[factor]}


@dataclass(frozen=True)
class Pool:
    """Contestants at several cells, compared as contestants of one study."""

    effects: Effects
    names: Mapping[Place, str]
    """By contestant and cell, its name in `effects`; the same for contests that run the same trials."""
    metric: str = METRIC
    """Name of the metric."""

    def estimate(self, weights: Mapping[Place, float]) -> Paired:
        """Estimate a weighted sum of gains; positive if the gains with positive weights are larger.

        Args:
            weights: By contestant and cell, its weight; they sum to zero.

        Returns:
            The sum with its interval and p-value; exactly zero if it compares the same runs.
        """
        contrast = self.contrast(weights)
        return self.effects.estimate(contrast) if contrast.terms else from_error(0.0, 0.0, 1, 1)

    def contrast(self, weights: Mapping[Place, float]) -> Contrast:
        """Return a weighted sum of gains as a contrast of `effects`; without terms if it compares the same runs.

        Args:
            weights: By contestant and cell, its weight; they sum to zero.
        """
        by_name: dict[str, float] = defaultdict(float)
        for place, weight in weights.items():
            by_name[self.names[place]] += weight
        return combination({name: w for name, w in by_name.items() if abs(w) > 1e-12}, self.metric)


@dataclass(frozen=True)
class Cells:
    """Effects at every cell of a study, on tasks with one unit of loss."""

    by_cell: Mapping[Cell, Effects]
    sweep: Sweep

    @classmethod
    def of(cls, effects: Sequence[Effects], sweep: Sweep) -> Cells:
        """Return the cells of a study.

        Args:
            effects: Effects at each cell.
            sweep: The sweep of the study.
        """
        return cls({found.results.resolved.cell: found for found in effects}, sweep)

    @property
    def main(self) -> Effects:
        """Effects at the main cell."""
        return self.by_cell[self.sweep.main]

    @property
    def contestants(self) -> list[str]:
        """Names of the contestants, full fine-tuning among them if it runs."""
        return self.main.results.contestants

    def contests(self, name: str, cell: Cell) -> list[Contest]:
        """Return the contests of a contestant at a cell, one for each task.

        Args:
            name: Name of the contestant.
            cell: The cell.
        """
        results = self.by_cell[cell].results
        return [results.contests[name, task] for task in results.study.tasks]

    def responds(self, name: str, factor: str) -> bool:
        """Return True if a contestant does not run the same trials at all levels of a factor.

        Args:
            name: Name of the contestant.
            factor: A factor of the sweep.
        """
        return len({_key(self.contests(name, cell)) for cell in line_of(self.sweep, factor).values()}) > 1

    def lines(self, factor: str) -> list[dict[Level, Cell]]:
        """Return the groups of two or more cells that differ by one factor alone.

        Args:
            factor: A factor of the sweep.
        """
        groups: dict[object, dict[Level, Cell]] = defaultdict(dict)
        for cell in self.by_cell:
            groups[cell.without(factor)][cell.by_factor[factor]] = cell
        return [group for group in groups.values() if len(group) > 1]

    @cached_property
    def pool(self) -> Pool:
        """The contestants at the main cell and at the cells that differ from it by one factor other than the model."""
        return self.pooled(METRIC)

    def pooled(self, metric: str) -> Pool:
        """Return the contestants at the cells of `pool`, compared by any metric.

        Args:
            metric: Name of the metric.
        """
        star = {
            cell: self.by_cell[cell]
            for factor in self.sweep.factors
            if factor != "model"
            for cell in line_of(self.sweep, factor).values()
        }
        return _pool(star or {self.sweep.main: self.main}, self, metric)


def _key(contests: Sequence[Contest]) -> tuple[object, ...]:
    return tuple(contest.key for contest in contests)


def _pool(star: Mapping[Cell, Effects], cells: Cells, metric: str) -> Pool:
    known: dict[tuple[object, ...], str] = {}
    names: dict[Place, str] = {}
    measured, rows, selections = {}, {}, {}
    for cell, effects in star.items():
        for contestant in effects.results.contestants:
            key = _key(cells.contests(contestant, cell))
            new = (contestant, *key)
            name = names[contestant, cell] = known.setdefault(new, f"{contestant} at {cell.words}")
            measured[name, metric] = effects.measured.get((contestant, metric), {})
            rows[name, metric] = effects.rows.get((contestant, metric), {})
            for task in effects.results.study.tasks:
                if (contestant, task) in effects.selections:
                    selections[name, task] = effects.selections[contestant, task]
    resolved = cells.main.results.resolved
    # These names are made here, from a model's path too, and need not be ones that a user may give.
    plain = Contestant(adapter="lora")
    entries = tuple(plain.model_copy(update={"label": name}) for name in dict.fromkeys(names.values()))
    study = resolved.study.model_copy(update={"contestants": entries, "full_ft": False})
    results = Results({}, replace(resolved, study=study))
    return Pool(Effects(results, measured, rows, selections, *variance_priors(results, measured)), names, metric)
