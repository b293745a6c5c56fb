"""Response of each contestant to a factor: its gain at each level, and the smallest level that is enough.

A level is enough if no other level is better by the smallest difference that matters: each is tested one-sided against it,
the largest p-value counts (intersection-union test), and these are corrected over the levels (Holm). So the answer does not
rest on which level happens to look best, and a level is never enough for lack of evidence.

>>> from adapterlab.lab.statistics import paired
>>> low, high = paired([0.050, 0.051, 0.049]), paired([0.051, 0.052, 0.050])
>>> small = LevelGain(2, low, paired([0.001, 0.0011, 0.0009]), 0.001, 500, 0.01)
>>> large = LevelGain(8, high, None, 0.001, 2000, 0.01)
>>> Response("lora", "rank", (small, large), smallest=0.005).sentence
'lora: rank 2 is enough; no other is better by 0.005 or more. Most was learned at rank 8.'
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.analysis.cells import Cells, line_of
from adapterlab.lab.analysis.pairwise import SIGNIFICANT, listed
from adapterlab.lab.statistics import Paired
from adapterlab.lab.statistics.equivalence import inferiority
from adapterlab.lab.study.sweep import RISING, Cell, Level, level_name, level_words


@dataclass(frozen=True)
class LevelGain:
    """A contestant at one level of a factor, the other factors at their main levels."""

    level: Level
    gain: Paired
    """In-domain improvement over the frozen model."""
    behind: Paired | None
    """Gain of the best level less this one's, paired; None for the best level and between models."""
    lacking: float
    """P-value of another level being better by the smallest difference that matters, Holm over the levels."""
    parameters: int
    """Number of trained parameters."""
    step_seconds: float
    """Mean time of a training step; nan if no run was reported."""
    note: str = ""
    """Remark if its size is not that of the level."""

    @property
    def enough(self) -> bool:
        """True if no other level is better by the smallest difference that matters."""
        return self.lacking < SIGNIFICANT

    @property
    def finished(self) -> bool:
        """True if a reported run did not diverge."""
        return math.isfinite(self.gain.mean)


@dataclass(frozen=True)
class Response:
    """Gains of one contestant at the levels of one factor."""

    contestant: str
    factor: str
    levels: tuple[LevelGain, ...]
    smallest: float
    """Smallest difference that matters, in the unit of the loss."""

    @property
    def best(self) -> LevelGain | None:
        """The level with the largest gain; None if no run was finished."""
        return max((level for level in self.levels if level.finished), key=lambda level: level.gain.mean, default=None)

    @property
    def enough(self) -> LevelGain | None:
        """The first level that is shown to be enough; None if none is. Nothing is known of levels beyond the last."""
        return next((level for level in self.levels if level.enough), None)

    @property
    def sentence(self) -> str:
        """Answer in a sentence or two; empty between models, whose gains are not compared."""
        best = self.best
        if best is None:
            return f"{self.contestant}: every run diverged, so there is no answer about {self.factor}."
        if self.factor == "model":
            return ""
        return self._where(best) if self.factor not in RISING else self._how_much(best)

    def _how_much(self, best: LevelGain) -> str:
        most = f"Most was learned at {level_words(self.factor, best.level)}."
        if (enough := self.enough) is None:
            named = {"steps": "number of steps", "budget": "budget"}.get(self.factor, self.factor)
            return (
                f"{self.contestant}: no {named} is shown to be enough (within {self.smallest:g} of every other). {most}"
            )
        words = level_words(self.factor, enough.level)
        if enough is self.levels[-1]:
            least = f"{self.contestant}: less than {words} is not shown to be enough (within {self.smallest:g} of it)"
            return f"{least}; more was not measured."
        verb = "are" if self.factor in ("steps", "budget") else "is"
        first = f"{self.contestant}: {words} {verb} enough; no other is better by {self.smallest:g} or more."
        return first if enough is best else f"{first} {most}"

    def _where(self, best: LevelGain) -> str:
        equal = [level_name(level.level) for level in self.levels if level.enough and level is not best]
        first = f"{self.contestant} learns most on {level_name(best.level)}"
        if equal:
            return (
                f"{first}; {listed(equal)} {'is' if len(equal) == 1 else 'are'} within {self.smallest:g} of any other."
            )
        if best.enough:
            return f"{first}; no other targets are shown to be within {self.smallest:g} of it."
        return f"{first}, but which targets are best cannot be told from chance."


def respond(cells: Cells, name: str, factor: str) -> Response:
    """Return the response of a contestant to a factor.

    Args:
        cells: Effects at every cell.
        name: Name of the contestant.
        factor: A factor of the sweep.

    Returns:
        The gain at each level, with the other factors at their main levels.
    """
    line, smallest = line_of(cells.sweep, factor), cells.main.results.study.report.smallest
    gains = {level: cells.by_cell[cell].gained(name, "in_domain") for level, cell in line.items()}
    finished = [level for level, gain in gains.items() if math.isfinite(gain.mean)]
    best = max(finished, key=lambda level: gains[level].mean, default=None)
    lacking = {} if factor == "model" else _lacking(cells, name, {level: line[level] for level in finished}, smallest)
    compared = factor != "model" and best is not None

    def of(level: Level, cell: Cell) -> LevelGain:
        runs = [run for contest in cells.contests(name, cell) for run in contest.reported.values()]
        behind = None
        if compared and best is not None and level != best and level in finished:
            behind = cells.pool.estimate({(name, line[best]): 1.0, (name, cell): -1.0})
        return LevelGain(
            level,
            gains[level],
            behind,
            lacking.get(level, 1.0),
            max((outcome.parameters for _, outcome in runs), default=0),
            fmean([outcome.seconds / trial.steps for trial, outcome in runs]) if runs else math.nan,
            _note(cells, name, factor, level, cell),
        )

    return Response(name, factor, tuple(of(level, cell) for level, cell in line.items()), smallest)


def _lacking(cells: Cells, name: str, line: dict[Level, Cell], smallest: float) -> dict[Level, float]:
    """Return by level the p-value of another level being better by what matters, corrected over the levels."""
    p = {
        level: max(
            (
                inferiority(cells.pool.estimate({(name, other): 1.0, (name, cell): -1.0}), smallest)
                for other in line.values()
                if other != cell
            ),
            default=1.0,
        )
        for level, cell in line.items()
    }
    return cells.main.adjust(p)


def _note(cells: Cells, name: str, factor: str, level: Level, cell: Cell) -> str:
    adapter = cells.contests(name, cell)[0].adapter
    rank = getattr(adapter, "rank", level)
    return f"rank {rank}" if factor == "rank" and rank != level else ""
