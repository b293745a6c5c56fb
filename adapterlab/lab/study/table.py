"""Base class and number types of the tables of a study.

>>> class Settings(Table):
...     steps: Count = 60
>>> Settings(steps=20).steps
20
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from adapterlab.names import name_problem, text_problem

LARGEST = 2**53
"""Largest whole number of a study."""
Rate = Annotated[float, Field(gt=0, lt=1e3)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def _checked(problem_of: Callable[[str], str | None]) -> AfterValidator:
    def check(text: str) -> str:
        if problem := problem_of(text):
            raise ValueError(problem)
        return text

    return AfterValidator(check)


Line = Annotated[str, _checked(text_problem)]
"""Text of one line without control characters: a title, a reason, a path."""
Name = Annotated[str, _checked(name_problem)]
"""Name of a contestant or a task."""


class Table(BaseModel):
    """Frozen table of a study that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def distinct(kind: str, values: tuple[object, ...]) -> None:
    """Raise an error if a value is given twice.

    Args:
        kind: Name of the key, for the error message.
        values: Its values.

    Raises:
        ValueError: A value is given twice.
    """
    seen = set[object]()
    for value in values:
        if value in seen:
            raise ValueError(f"{kind} has {value!r} twice: give each once")
        seen.add(value)
