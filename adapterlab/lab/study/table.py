"""Base class and number types of the tables of a study.

>>> class Settings(Table):
...     steps: Count = 60
>>> Settings(steps=20).steps
20
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, lt=1e3)]
Count = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """Frozen table of a study that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
