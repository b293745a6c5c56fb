"""What is learned, one file a task, and how it is scored.

A task of your own is a subclass, with a `name`, of `CompletionTask` (prompts and what should come after them) or of
`WindowTask` (running text), both in `adapterlab.tasks.text`, or of `adapterlab.tasks.base.Task`. In this folder it is found
by itself; anywhere else a study names its file in `task_files`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from adapterlab.errors import UnknownNameError
from adapterlab.tasks.base import Task
from adapterlab.user_code import load_module

_added: dict[str, Task] = {}


@cache
def _import_tasks() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def all_tasks() -> tuple[str, ...]:
    """The name of every known task: those shipped, those whose class was defined since, those added."""
    _import_tasks()
    return tuple(sorted({*Task.registry, *_added}))


def load_file(path: Path) -> None:
    """Make the tasks that a Python file defines known, once.

    Raises `AdapterlabError` if the file is missing, cannot be run, or defines no task.
    """
    _import_tasks()
    load_module(path, Task.registry, "task: subclass WindowTask or CompletionTask and set its name")


def add_task(task: Task) -> None:
    """Make a task known that has a name of its own, such as one made from a user's files."""
    _added[task.name] = task


def task(name: str) -> Task:
    """The task of this name; raises `UnknownNameError` with the nearest names."""
    if name in _added:
        return _added[name]
    if name not in all_tasks():
        raise UnknownNameError("task", name, all_tasks())
    return Task.registry[name]()
