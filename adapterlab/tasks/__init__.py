"""What is learned, one file a task, and how it is scored."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from adapterlab.errors import UnknownNameError
from adapterlab.models.corpus import documents
from adapterlab.tasks.base import Task, Tokenizer, Windows, cut


@cache
def _import_tasks() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def all_tasks() -> dict[str, type[Task]]:
    """Every known task by name."""
    _import_tasks()
    return dict(sorted(Task.registry.items()))


def task(name: str) -> Task:
    """The task of this name; raises `UnknownNameError` with the nearest names."""
    known = all_tasks()
    if name not in known:
        raise UnknownNameError("task", name, known)
    return known[name]()


def base_domain(tokenizer: Tokenizer, length: int, count: int) -> Windows:
    """Windows of what the embedded base was trained for and never saw: forgetting is the rise of its loss here."""
    return cut([d.text for d in documents("heldout")], tokenizer, length, count, "base")
