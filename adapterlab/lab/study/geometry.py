"""The `[geometry]` table of a study: which contestants' weight changes are measured, and how.

>>> table = Geometry(of=("full_ft", "lora"), budget=20_000)
>>> table.spec(160_000)["budget"], table.spec(None)["budget"]
(20000, 20000)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from adapterlab.lab.study.table import LARGEST, Count, Line, Table, distinct

DIRECTION = "direction_against_magnitude"
"""Name of the correlation over layers of the change of magnitude with that of direction, which is of no single layer."""


class Geometry(Table):
    """Settings of the measurement of weight changes, made at the end of each reported run of some contestants."""

    of: Annotated[tuple[Line, ...], Field(min_length=1)]
    """Labels of the contestants whose changes are measured."""
    hypotheses: tuple[Line, ...] = ()
    """Hypotheses that each change is projected on; all of them if empty."""
    measures: tuple[Line, ...] = ()
    """Measures that are computed of each change; all of them if empty."""
    budget: Count | None = None
    """Parameters of a projected change, at most; the study's budget if None."""
    draws: Annotated[int, Field(ge=2, le=LARGEST)] = 20
    """Random changes that each measure is compared with."""

    @field_validator("of", "hypotheses", "measures")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        distinct("the list", names)
        return names

    def spec(self, budget: int | None) -> Mapping[str, Any]:
        """Return what decides the numbers, as plain data, for the id of a trial.

        Args:
            budget: Budget of the study.
        """
        return {
            "hypotheses": list(self.hypotheses),
            "measures": list(self.measures),
            "budget": self.budget or budget,
            "draws": self.draws,
        }
