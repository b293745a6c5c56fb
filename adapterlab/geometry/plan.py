"""Choices of what is measured of a weight change.

>>> [each.name for each in Plan(hypotheses=("lora",)).chosen_hypotheses()]
['low_rank']
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.hypotheses import all_hypotheses, hypothesis
from adapterlab.geometry.hypotheses.base import Hypothesis
from adapterlab.geometry.measures import all_measures, measure_named
from adapterlab.geometry.measures.base import DRAWS, Measure

BUDGETS = 5
"""Numbers of parameters to project at by default."""
LARGEST_RANK = 32
"""Rank of low rank whose number of parameters is the largest default budget."""


@dataclass(frozen=True)
class Plan:
    """Choices of what is measured."""

    budgets: tuple[int, ...] = ()
    """Numbers of parameters to project at; five from rank 1 to rank 32 of low rank if empty."""
    hypotheses: tuple[str, ...] | None = None
    """Names of hypotheses, or of adapters that state them; all if None."""
    measures: tuple[str, ...] | None = None
    """Names of measures, such as `energy_in_top(0.05)`; all if None."""
    draws: int = DRAWS
    """Random changes that a null is estimated from."""
    seed: int = 0
    """Seed of the draws and of the starts of fits."""
    score_at: tuple[int, ...] | Literal["all", "largest"] = "all"
    """Numbers of parameters at which projected models are scored; they count as budgets too. Scoring a model takes far
    longer than a residual if the model is large."""
    sharing: bool = True
    """True to measure what the changes of layers of one role and shape have in common."""
    activations: bool = True
    """True to measure what the change does to activations, if a task is given."""

    def chosen_hypotheses(self) -> tuple[Hypothesis, ...]:
        """Return the hypotheses, each once.

        Raises:
            UnknownNameError: A name is not known.
        """
        if self.hypotheses is None:
            return tuple(all_hypotheses().values())
        return tuple({each.name: each for each in map(hypothesis, self.hypotheses)}.values())

    def chosen_measures(self) -> tuple[Measure, ...]:
        """Return the measures, each once.

        Raises:
            UnknownNameError: A name is not known.
            AdapterlabError: A parameter is out of range.
        """
        if self.measures is None:
            return all_measures()
        return tuple(measure_named(name) for name in dict.fromkeys(self.measures))

    def check(self) -> None:
        """Raise an error if a choice makes no sense.

        Raises:
            AdapterlabError: A name is not known, or a number is out of range.
        """
        self.chosen_hypotheses()
        self.chosen_measures()
        if bad := [budget for budget in (*self.budgets, *self._own_scored()) if budget < 1]:
            raise AdapterlabError(f"a budget of {bad[0]} parameters holds no change: give positive numbers")
        if not self.score_at:
            raise AdapterlabError("no number of parameters to score at: give one, or largest, or all")
        if self.draws < 2:
            raise AdapterlabError(f"{self.draws} draws give no interval: give at least 2")

    def all_budgets(self, shapes: Mapping[str, tuple[int, int]]) -> tuple[int, ...]:
        """Return the numbers of parameters to project at, each once, in ascending order.

        Args:
            shapes: `(out, in)` of every changed layer by path.
        """
        return tuple(sorted({*(self.budgets or default_budgets(shapes)), *self._own_scored()}))

    def scored_budgets(self, shapes: Mapping[str, tuple[int, int]]) -> tuple[int, ...]:
        """Return the numbers of parameters at which projected models are scored.

        Args:
            shapes: `(out, in)` of every changed layer by path.
        """
        budgets = self.all_budgets(shapes)
        return {"all": budgets, "largest": budgets[-1:]}.get(str(self.score_at), self._own_scored())

    def _own_scored(self) -> tuple[int, ...]:
        return () if isinstance(self.score_at, str) else self.score_at

    @property
    def identity(self) -> str:
        """Hash of the choices and of the code that carries them out."""
        return hashlib.blake2b(f"{asdict(self)}{_code()}".encode(), digest_size=12).hexdigest()


def default_budgets(shapes: Mapping[str, tuple[int, int]]) -> tuple[int, ...]:
    """Return numbers of parameters from those of rank 1 to those of rank 32 in every layer, evenly spaced in logarithm.

    Args:
        shapes: `(out, in)` of every layer by path.

    >>> default_budgets({"up": (64, 64)})
    (128, 304, 724, 1722, 4096)
    """
    largest = min(LARGEST_RANK, *(min(shape) for shape in shapes.values()))
    one = sum(rows + columns for rows, columns in shapes.values())
    return tuple(sorted({round(one * rank) for rank in np.geomspace(1, largest, BUDGETS).tolist()}))


@cache
def _code() -> str:
    """Return a hash of this package's files, so that what other code has measured is not taken up."""
    digest = hashlib.blake2b(digest_size=12)
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
