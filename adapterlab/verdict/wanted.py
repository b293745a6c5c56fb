"""Contestants that a claim's test names: by a label, or by an adapter with settings.

`lora` is the contestant of that name in a study. `lora(rank=1)` is the contestant whose adapter is LoRA and whose rank,
after it was sized, is 1; `ssvd(rotation=free)` is a control of a method, whatever its label is.

>>> Wanted.parse("svft(pattern=random)")
Wanted(name='svft', settings=(('pattern', 'random'),))
>>> str(Wanted.parse("lora( rank = 1 )"))
'lora(rank=1)'
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import yaml

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters import all_adapters
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.analysis.metrics import Results

_FORM = re.compile(r"\s*([^()]+?)\s*(?:\(\s*(.*?)\s*\))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """A contestant as a test names it."""

    name: str
    """Label of a contestant, or name of an adapter."""
    settings: tuple[tuple[str, object], ...] = ()
    """Settings of the adapter by which the contestant is found."""

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """Read a contestant.

        Args:
            text: Such as `lora`, or `lora(rank=1)`.

        Returns:
            The contestant.

        Raises:
            AdapterlabError: If it has another form.
        """
        found = _FORM.fullmatch(text)
        pairs = [part.partition("=") for part in (found[2] or "").split(",") if part.strip()] if found else []
        if found is None or any(not separator or not key.strip() for key, separator, _ in pairs):
            raise AdapterlabError(f"{text!r} names no contestant: write a label, or an adapter such as lora(rank=1)")
        return cls(found[1], tuple((key.strip(), yaml.safe_load(value)) for key, _, value in pairs))

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.settings)
        return f"{self.name}({settings})" if self.settings else self.name

    def check(self, where: str, labels: Collection[str] = ()) -> None:
        """Raise an error if no study could have this contestant.

        Args:
            where: Place of the test, for the message.
            labels: Labels that are known besides the names of the adapters.

        Raises:
            AdapterlabError: If a setting is not valid.
            UnknownNameError: If there is no such adapter or label.
        """
        if self.name not in all_adapters() and (self.settings or self.name not in labels):
            raise UnknownNameError("adapter", self.name, [*all_adapters(), *labels], where=where)
        try:
            if self.settings:
                make_adapter(self.name, **dict(self.settings))
        except AdapterlabError as error:
            raise AdapterlabError(f"{where}: {error}") from error

    def fits(self, adapter: Adapter | None) -> bool:
        """Return True if an adapter is this one with these settings.

        Args:
            adapter: The adapter after it was sized; None for the frozen model.
        """
        own = adapter is not None and adapter.name == self.name
        return own and all(getattr(adapter, key, None) == value for key, value in self.settings)

    def find(self, results: Results) -> list[str]:
        """Return the names of the contestants of a study that fit, the one with this name as its label first.

        Without settings these are the contestant of this name, and others of the adapter with the same settings, as at
        other sizes.

        Args:
            results: The results.
        """
        entrants, contests = results.study.entrants, results.contests
        if self.settings:
            return [
                name
                for name in results.contestants
                if all(self.fits(contests[name, t].adapter) for t in results.study.tasks if (name, t) in contests)
            ]
        own = next((entry for entry in entrants if entry.name == self.name), None)
        settings = {} if own is None else own.settings
        alike = [e.name for e in entrants if e.adapter == self.name and e.settings == settings]
        return list(dict.fromkeys([*([] if own is None else [own.name]), *alike]))
