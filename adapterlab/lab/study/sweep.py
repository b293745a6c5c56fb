"""Factors that a study sweeps, and the cells that they span: the combinations of levels at which the study runs.

>>> sweep = Sweep(steps=(20, 40), rank=(2, 8), design="factorial")
>>> [cell.words for cell in sweep.cells]
['20 steps, rank 2', '20 steps, rank 8', '40 steps, rank 2', '40 steps, rank 8']
>>> [cell.words for cell in Sweep(steps=(20, 40), rank=(2, 8)).cells]  # one at a time, the main cell last
['20 steps, rank 8', '40 steps, rank 2', '40 steps, rank 8']
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from adapterlab.lab.study.table import Count, Line, Table

Targets = Line | Annotated[tuple[Line, ...], Field(min_length=1)]
Level = int | str | tuple[str, ...]
"""Value of a factor."""
FACTORS = {"steps": "steps", "rank": "rank", "targets": "targets", "models": "model", "budgets": "budget"}
"""By key of `[sweep]`, the name of the factor."""
RISING = ("steps", "rank", "budget")
"""Factors whose levels are numbers; the largest is the main level. Of the other factors it is the first."""
MOST_CELLS = 100
"""Most cells of a study."""


def level_words(factor: str, level: Level) -> str:
    """Return a level in words.

    >>> level_words("budget", 20_000), level_words("targets", ("q_proj", "v_proj"))
    ('20,000 trained parameters', 'targets q_proj+v_proj')

    Args:
        factor: Name of the factor.
        level: Its level.
    """
    if isinstance(level, int):
        number = f"{level:,}"
        return {"steps": f"{number} steps", "budget": f"{number} trained parameters"}.get(factor, f"{factor} {number}")
    return f"{factor} {level_name(level)}"


def level_name(level: Level) -> str:
    """Return a level by itself, as a label of an axis or a column.

    Args:
        level: The level.
    """
    if isinstance(level, int):
        return f"{level:,}"
    return level if isinstance(level, str) else "+".join(level)


@dataclass(frozen=True)
class Cell:
    """One combination of levels."""

    levels: tuple[tuple[str, Level], ...] = ()
    """By factor that the study sweeps, its level; empty for a study without a sweep."""

    @property
    def words(self) -> str:
        """The levels in words; empty for a study without a sweep."""
        return ", ".join(level_words(factor, level) for factor, level in self.levels)

    @property
    def slug(self) -> str:
        """The levels as a part of a file's name; empty for a study without a sweep."""
        names = (f"{factor}-{level if isinstance(level, int) else level_name(level)}" for factor, level in self.levels)
        return "-".join(re.sub(r"[^\w.+-]+", "-", name).strip("-") for name in names)

    @property
    def by_factor(self) -> Mapping[str, Level]:
        """By factor, its level."""
        return dict(self.levels)

    def without(self, factor: str) -> tuple[tuple[str, Level], ...]:
        """Return the levels of the other factors.

        Args:
            factor: Name of a factor.
        """
        return tuple(pair for pair in self.levels if pair[0] != factor)


class Sweep(Table):
    """Factors that a study sweeps, each with two or more levels.

    The main cell has the largest steps, rank and budget, and the first targets and model. Claims are judged there.
    """

    steps: tuple[Count, ...] | None = None
    """Training steps of a reported run, rising."""
    rank: tuple[Count, ...] | None = None
    """Ranks, rising, of the contestants whose size is set by a rank; the others run at their own size."""
    budgets: tuple[Count, ...] | None = None
    """Trained parameters that every contestant is sized to, rising."""
    targets: tuple[Targets, ...] | None = None
    """Modules that the contestants with the targets `all-linear` are attached to."""
    models: tuple[Line, ...] | None = None
    """Base models."""
    # Not written where it is not given, so that studies keep the hashes that they had before there was such a key.
    model_budgets: Mapping[Line, Count] | None = Field(default=None, exclude_if=lambda given: given is None)
    """By base model, the trained parameters that every contestant is sized to on it."""
    design: Literal["one-at-a-time", "factorial"] = "one-at-a-time"
    """`one-at-a-time` to change one factor at a time from the main cell, `factorial` to run every combination."""

    @field_validator("steps", "rank", "budgets", "targets", "models")
    @classmethod
    def _levels(cls, levels: tuple[Level, ...] | None) -> tuple[Level, ...] | None:
        if levels is None:
            return None
        if len(levels) < 2:
            raise ValueError("give two or more levels, or leave the factor out")
        numbers = [level for level in levels if isinstance(level, int)]
        if numbers != sorted(set(numbers)):
            raise ValueError("the levels do not rise: give each level once, the smallest first")
        if len(set(levels)) < len(levels):
            raise ValueError("give each level once")
        return levels

    @model_validator(mode="after")
    def _few_cells(self) -> Sweep:
        if self.rank is not None and self.budgets is not None:
            raise ValueError("rank and budgets both set the size of the contestants: give one of them")
        if self.model_budgets is not None:
            if self.rank is not None or self.budgets is not None:
                raise ValueError(
                    "model_budgets sets the size of the contestants, as rank and budgets do: give one of them"
                )
            if {*self.model_budgets} != {*(self.models or ())}:
                raise ValueError("model_budgets must name the models of the sweep, each of them and no other")
        if self.count > MOST_CELLS:
            raise ValueError(
                f"the sweep has {self.count:,} cells, more than {MOST_CELLS}: give fewer levels"
                + (', or design = "one-at-a-time"' if self.design == "factorial" else "")
            )
        return self

    @property
    def factors(self) -> dict[str, tuple[Level, ...]]:
        """By factor that is swept, its levels."""
        given = {name: getattr(self, key) for key, name in FACTORS.items()}
        return {name: levels for name, levels in given.items() if levels is not None}

    @property
    def count(self) -> int:
        """Number of cells."""
        counts = [len(levels) for levels in self.factors.values()]
        return math.prod(counts) if self.design == "factorial" else 1 + sum(count - 1 for count in counts)

    @property
    def main(self) -> Cell:
        """The main cell."""
        return Cell(tuple((name, main_level(name, levels)) for name, levels in self.factors.items()))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, the main one last; one without levels if nothing is swept."""
        factors, main = self.factors, self.main
        if self.design == "factorial":
            names = list(factors)
            cells = [Cell(tuple(zip(names, levels, strict=True))) for levels in itertools.product(*factors.values())]
        else:
            cells = [
                Cell(tuple((name, level if name == varied else usual) for name, usual in main.levels))
                for varied, levels in factors.items()
                for level in levels
            ]
        return *dict.fromkeys(cell for cell in cells if cell != main), main


def main_level(factor: str, levels: tuple[Level, ...]) -> Level:
    """Return the level of a factor in the main cell.

    Args:
        factor: Name of the factor.
        levels: Its levels.
    """
    return levels[-1] if factor in RISING else levels[0]
