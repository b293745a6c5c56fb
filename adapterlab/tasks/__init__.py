"""Tasks: the data that adapters are trained on, one file per task, and how each task is scored.

To add a task, subclass `CompletionTask` (prompts and their completions) or `WindowTask` (running text), both in
`adapterlab.tasks.text`, or `adapterlab.tasks.base.Task`, and set a `name`. A module in this folder is found automatically.
For a file elsewhere, list its path under `task_files` in the study.

Example:
    >>> from adapterlab.tasks import task
    >>> task("prose").title
    'English about Python'
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from adapterlab.errors import UnknownNameError
from adapterlab.tasks.base import Task
from adapterlab.user_code import load_module


@cache
def _import_tasks() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def all_tasks() -> tuple[str, ...]:
    """Return the sorted names of all known tasks: built in, and loaded from files."""
    _import_tasks()
    return tuple(sorted(Task.registry))


def load_file(path: Path) -> None:
    """Run a Python file that defines tasks, so that they are known by name. Loading a file again has no effect.

    Args:
        path: The Python file.

    Raises:
        AdapterlabError: If the file is missing, cannot be run, or defines no task.
    """
    _import_tasks()
    load_module(path, Task.registry, "task: subclass WindowTask or CompletionTask and set its name")


def task(name: str) -> Task:
    """Return the task with the given name.

    Args:
        name: One of `all_tasks()`.

    Raises:
        UnknownNameError: If there is no such task; the message suggests similar names.
    """
    if name not in all_tasks():
        raise UnknownNameError("task", name, all_tasks())
    return Task.registry[name]()
