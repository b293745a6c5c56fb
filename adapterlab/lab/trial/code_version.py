"""A hash of the code that decides a trial's outcome.

It covers every source file that a worker reaches through its imports (training, model loading, surgery), the files of the
adapter's class, of the task's class and of all their bases, and everything that these import: `import_closure` states the
rule. Other methods and other tasks are not covered, because trial code reaches them only through the registries. Code that
measures geometry is covered by a hash of its own (`geometry_version`), in the trials that measure it.

Comments, docstrings, formatting, the folder of the code and the version of Python do not change the hash. Everything else
that decides an outcome has its own field in a `Trial`: the weights and the tokenizer (`model_hash`), the data (`data`) and
the settings. No other file of the package decides one. Versions of libraries are recorded with each trial (`environment`)
and are not part of its name, except those that compute the method (`Adapter.libraries`).

>>> from adapterlab.tasks import task
>>> [name for name in ("oft", "lora") if "adapterlab/adapters/rotations.py" in dict(decisive_files(name, task("prose")))]
['oft']
>>> len(code_version("lora", task("prose")))
12
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from adapterlab.adapters import method
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.input_files import FileStamp
from adapterlab.lab.trial.import_closure import ImportClosure, Module
from adapterlab.lab.trial.late_import import GEOMETRY
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.tasks.answer_metrics import Scorer
from adapterlab.tasks.base import Task

WORKER = "adapterlab.lab.run.executors.worker"
"""The module that a worker runs; all trial code is reached from it."""
REGISTRIES: dict[str, type[Adapter] | type[Task]] = {"adapterlab.adapters": Adapter, "adapterlab.tasks": Task}
"""Packages that import their members by computed names, and the classes that list these members."""


def code_version(adapter: str, task: Task, closure: ImportClosure | None = None) -> str:
    """Return the hash of the code that decides a trial's outcome, 12 hexadecimal digits.

    Args:
        adapter: Name of the adapter, or `FROZEN`.
        task: The task.
        closure: Finds the source files; by default those of this package, read once per process.

    Raises:
        AdapterlabError: If a class has no source file.
    """
    return _version(_classes(adapter, task), closure or _shared(tuple(registered().items())))


def decisive_files(adapter: str, task: Task, closure: ImportClosure | None = None) -> list[tuple[str, str]]:
    """Return the source files that decide a trial's outcome, each with a hash of its code, sorted.

    Args:
        adapter: Name of the adapter, or `FROZEN`.
        task: The task.
        closure: Finds the source files; by default those of this package, read once per process.

    Raises:
        AdapterlabError: If a class has no source file.
    """
    return _digests(_classes(adapter, task), closure or _shared(tuple(registered().items())))


def decisive_stamps(adapter: str, task: Task, closure: ImportClosure | None = None) -> list[FileStamp]:
    """Return the source files that decide a trial's outcome, as they were when they were read.

    Args:
        adapter: Name of the adapter, or `FROZEN`.
        task: The task.
        closure: Finds the source files; by default those of this package, read once per process.

    Raises:
        AdapterlabError: If a class has no source file.
    """
    closure = closure or _shared(tuple(registered().items()))
    return closure.stamps(_roots(_bases(_classes(adapter, task)), closure))


def scorer_code(scorer: Scorer) -> tuple[str, tuple[FileStamp, ...]]:
    """Return a hash of the code of a user's scorer, with all files of the user that it imports, and their stamps.

    Args:
        scorer: The scorer.

    Raises:
        AdapterlabError: If its file is missing or is not Python.
    """
    file, closure = Path(scorer.file), ImportClosure()
    roots = [Module(file, file.parent)]
    try:
        content = f"{closure.digests(roots)}/{scorer.function}"
        stamps = tuple(closure.stamps(roots))
    except (OSError, SyntaxError, ValueError) as error:
        raise AdapterlabError(f"the scorer {scorer.name} in {file} cannot be read: {error}") from error
    return hashlib.blake2b(content.encode(), digest_size=6).hexdigest(), stamps


def geometry_version(closure: ImportClosure | None = None) -> str:
    """Return the hash of the code that measures geometry, 12 hexadecimal digits.

    It counts in the names of the trials that measure geometry, beside `code_version`, and of no others.

    Args:
        closure: Finds the source files; by default those of this package, read once per process.
    """
    return _geometry_version(closure or _shared(tuple(registered().items())))


@cache
def _geometry_version(closure: ImportClosure) -> str:
    return _hash(closure.digests(_geometry(closure)))


def geometry_stamps(closure: ImportClosure | None = None) -> list[FileStamp]:
    """Return the source files that measure geometry, as they were when they were read.

    Args:
        closure: Finds the source files; by default those of this package, read once per process.
    """
    closure = closure or _shared(tuple(registered().items()))
    return closure.stamps(_geometry(closure))


def _geometry(closure: ImportClosure) -> list[Module]:
    found = closure.module(GEOMETRY)
    assert found is not None
    return [found]


def registered() -> dict[str, tuple[str, ...]]:
    """Return the registry packages, each with the modules that define its members at present."""
    return {
        package: tuple(sorted({member.__module__ for member in base.registry.values()}))
        for package, base in REGISTRIES.items()
    }


@cache
def _shared(members: tuple[tuple[str, tuple[str, ...]], ...]) -> ImportClosure:
    return ImportClosure(registries=dict(members))


@cache
def _version(classes: tuple[type, ...], closure: ImportClosure) -> str:
    return _hash(_digests(classes, closure))


def _hash(digests: Iterable[tuple[str, str]]) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for label, hashed in digests:
        digest.update(f"{label} {hashed}\n".encode())
    return digest.hexdigest()


def _classes(adapter: str, task: Task) -> tuple[type, ...]:
    """Return the classes of the adapter and of the task."""
    return (type(task),) if adapter == FROZEN else (method(adapter), type(task))


def _digests(classes: tuple[type, ...], closure: ImportClosure) -> list[tuple[str, str]]:
    bases = _bases(classes)
    libraries = {library for base in bases for library in getattr(base, "libraries", ())}
    files = closure.digests(_roots(bases, closure))
    return [*files, *((library, version(library)) for library in sorted(libraries))]


def _bases(classes: tuple[type, ...]) -> set[type]:
    """Return the classes with all their bases that are adapters or tasks."""
    return {base for cls in classes for base in cls.__mro__ if issubclass(base, tuple(REGISTRIES.values()))}


def _roots(bases: set[type], closure: ImportClosure) -> list[Module]:
    """Return the worker's module and those that define the classes."""
    names = {WORKER, *(base.__module__ for base in bases)}
    return [module for name in sorted(names) if (module := closure.module(name)) is not None]
