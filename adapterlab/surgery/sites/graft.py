"""Changes that other code makes to the modules of a model, recorded so that they can be undone and made again.

>>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
>>> def replace() -> None:
...     model[1] = nn.Tanh()
>>> graft, _ = record(model, replace)
>>> graft.undo()
>>> model[1]
ReLU()
>>> graft.apply()
>>> model[1]
Tanh()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

T = TypeVar("T")
_ABSENT = object()
"""Marks a key that does not exist."""


class _Change(NamedTuple):
    """One entry of a module's attributes, or of an attribute that is a dictionary, such as its children."""

    module: nn.Module
    attribute: str | None
    """The attribute that has the entry; None for the module's own attributes."""
    key: Any
    before: Any
    after: Any

    def switch(self, value: Any, replaced: Any) -> None:
        """Give the entry a value in place of another, or remove it; a module gets the mode of the one that it replaces."""
        entries = self.module.__dict__ if self.attribute is None else self.module.__dict__[self.attribute]
        if value is _ABSENT:
            entries.pop(self.key, None)
        else:
            entries[self.key] = value
        if isinstance(value, nn.Module):
            value.train((replaced if isinstance(replaced, nn.Module) else self.module).training)


@dataclass(frozen=True)
class Graft:
    """Recorded changes, which are made or undone together."""

    changes: tuple[_Change, ...]

    def apply(self) -> None:
        """Make the changes."""
        for change in self.changes:
            change.switch(change.after, change.before)

    def undo(self) -> None:
        """Undo the changes: the modules are as before, with the same parameter objects."""
        for change in reversed(self.changes):
            change.switch(change.before, change.after)


def record(model: nn.Module, change: Callable[[], T]) -> tuple[Graft, T]:
    """Run code that changes a model, and record its changes; they stay made.

    Values that the code writes into the model's parameters, and parameters that it lets train, become parameters of the
    graft; the model's own keep their values and train as before. A copy of the model's parameters is held meanwhile.

    Args:
        model: The model.
        change: The code. If it fails, everything is undone.

    Returns:
        The recorded changes, and the result of the code.
    """
    parameters = list(dict.fromkeys(model.parameters()))
    values = {p: (p.detach().clone(), p.requires_grad) for p in parameters}
    before = _snapshot(model)
    try:
        result = change()
    except BaseException:
        _restore(values)
        Graft(tuple(_differences(before))).undo()
        raise
    replaced = {}
    for parameter, (value, _) in values.items():
        if parameter.requires_grad or not _equal(parameter.data, value):
            replaced[parameter] = nn.Parameter(parameter.data, requires_grad=parameter.requires_grad)
    for module in model.modules():
        for name, own in module._parameters.items():
            if own is not None and own in replaced:
                module._parameters[name] = replaced[own]
    _restore(values)
    graft = Graft(tuple(_differences(before)))
    graft.apply()  # new modules get the mode of the model
    return graft, result


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.is_meta or second.is_meta:
        return first.is_meta and second.is_meta and first.shape == second.shape
    return first.dtype == second.dtype and torch.equal(first, second)


def _restore(values: dict[nn.Parameter, tuple[torch.Tensor, bool]]) -> None:
    for parameter, (value, trains) in values.items():
        if not _equal(parameter.data, value) or parameter.requires_grad:
            parameter.data = value
        parameter.requires_grad_(trains)


def _snapshot(model: nn.Module) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Return the attributes of all modules, with copies of those that are dictionaries."""
    return [
        (module, {key: dict(value) if isinstance(value, dict) else value for key, value in module.__dict__.items()})
        for module in model.modules()
    ]


def _differences(before: list[tuple[nn.Module, dict[str, Any]]]) -> Iterator[_Change]:
    """Yield the entries that are not as in a snapshot."""
    for module, attributes in before:
        for key in dict.fromkeys((*attributes, *module.__dict__)):
            old, new = attributes.get(key, _ABSENT), module.__dict__.get(key, _ABSENT)
            if isinstance(old, dict) and isinstance(new, dict):
                for entry in dict.fromkeys((*old, *new)):
                    a, b = old.get(entry, _ABSENT), new.get(entry, _ABSENT)
                    if a is not b:
                        yield _Change(module, key, entry, a, b)
            elif old is not new and key != "training":
                yield _Change(module, None, key, old, new)
