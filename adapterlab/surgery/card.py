"""The card of a saved adapter, `adapter.json`: its content as a validated model.

>>> Card.parse('{"adapter": {"name": "lora"}, "targets": "all-linear"}').fresh
()
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from adapterlab.surgery.model.where import Where

LARGEST = 2**53
"""Largest integer that a card may hold."""
TargetsField = StrictStr | tuple[StrictStr, ...]


class Card(BaseModel):
    """Content of `adapter.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapterlab: StrictStr = ""
    """Version that wrote the card."""
    adapter: dict[StrictStr, Any]
    """The method's `name` and its hyperparameters."""
    targets: TargetsField
    """Places, as in `Where`."""
    exclude: TargetsField = ()
    """Places left out, as in `Where`."""
    layers: tuple[StrictInt, ...] | None = None
    """Numbers of the blocks, as in `Where`."""
    settings: dict[StrictStr, dict[StrictStr, Any]] = Field(default_factory=dict)
    """Hyperparameters that differ at some places, as in `Where`."""
    aliases: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    """Names of the tensors that were written, by those of the tensors that are the same."""
    fresh: tuple[StrictStr, ...] = ()
    """Paths of new heads."""
    trained_too: tuple[StrictStr, ...] = ()
    """Paths of the other parameters that were trained."""
    below: tuple[StrictStr, ...] = ()
    """Names of the adapters that were attached before."""
    base: dict[StrictStr, StrictStr] | None = None
    """Fingerprints of the base's parameters, by path."""

    @classmethod
    def parse(cls, text: str) -> Card:
        """Return the card from the text of the file.

        Args:
            text: JSON.

        Raises:
            ValueError: The text is no card; the message is one line.
        """
        try:
            data = json.loads(text, parse_constant=_refuse)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        _check_numbers(data)
        try:
            card = cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{where or 'it'}: {first['msg']}".replace("\n", " ")) from None
        if not isinstance(card.adapter.get("name"), str):
            raise ValueError("adapter.name: the name of the method is missing")
        return card

    @property
    def where(self) -> Where:
        """The choice of places."""
        layers = None if self.layers is None else list(self.layers)
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        exclude = list(self.exclude) if isinstance(self.exclude, tuple) and self.exclude else self.exclude
        return Where(targets, exclude, layers, self.settings)

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Hyperparameters of the method, without its name."""
        return {key: value for key, value in self.adapter.items() if key != "name"}


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}, and every number must be finite")


def _check_numbers(data: Any) -> None:
    """Raise an error if a number is infinite (1e999 is read as such) or an integer has too many digits."""
    match data:
        case dict():
            for value in data.values():
                _check_numbers(value)
        case list():
            for value in data:
                _check_numbers(value)
        case float() if not math.isfinite(data):
            _refuse(str(data))
        case int() if abs(data) > LARGEST:
            raise ValueError("it holds an integer above 2^53")
