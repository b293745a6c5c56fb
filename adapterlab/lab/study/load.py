"""Read a study from a TOML file; an error names the file, the line and the key.

>>> from adapterlab.resources import shipped
>>> load_study(shipped("studies", "quick.toml")).tasks
('restyle', 'prose')
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from adapterlab.adapters import load_file, method
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.study.check_geometry import GeometryError, check_geometry
from adapterlab.lab.study.geometry import Geometry
from adapterlab.lab.study.spec import Contestant, Data, Limits, Reporting, Study, Training, Tuning
from adapterlab.lab.study.sweep import Sweep
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks import load_file as load_task_file
from adapterlab.tasks.answer_metrics import scorer_of
from adapterlab.tasks.files import task_of
from adapterlab.tasks.scorer import check_scorer
from adapterlab.trust import require

_TABLES: dict[str, type[BaseModel]] = {
    "training": Training,
    "sweep": Sweep,
    "tuning": Tuning,
    "report": Reporting,
    "geometry": Geometry,
    "limits": Limits,
    "contestants": Contestant,
    "data": Data,
}
"""Models of the tables of a study, by key."""
_REPLACED = {
    (
        "training",
        "dtype",
    ): 'is now precision: write precision = "float32", or "bf16" for a base in bfloat16 and autocast; '
    "without it, a check chooses"
}
"""Keys of older versions, with what takes their place."""
SHOWN = 80
"""Characters of a wrong value in a message."""


def load_study(path: Path, *, trust: bool = False) -> Study:
    """Read and check a study.

    Args:
        path: The TOML file.
        trust: True to trust the Python files that the study names, from now on and as they are.

    Returns:
        The study, with the paths of its files resolved; the adapters and tasks that they define are registered.

    Raises:
        AdapterlabError: If the file cannot be read, or a value is not valid.
        UnknownNameError: If there is no such setting, task, adapter or contestant.
        UntrustedCodeError: If the study names a Python file that is not trusted.
    """
    try:
        text = path.read_text("utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise AdapterlabError(f"cannot read the study {path}: {error.strerror}") from error
    except RecursionError as error:
        raise AdapterlabError(f"{path} is not TOML: it is nested too deeply") from error
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise AdapterlabError(f"{path} is not TOML: {error}") from error
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        raise AdapterlabError(_explain(error, path, text)) from error
    study = study.model_copy(
        update={
            key: tuple(str((path.parent / file).resolve()) for file in getattr(study, key))
            for key in ("adapter_files", "task_files")
        }
        | {"data": tuple(entry.beside(path.parent) for entry in study.data)}
    )
    require((*study.adapter_files, *study.task_files), str(path), trust)
    load_files(study)
    for i, entry in enumerate(study.data):
        if entry.name in all_tasks():
            raise AdapterlabError(
                f"{_place(path, text, ('data', i))}: data.name: {entry.name!r} is a task already: give another name"
            )
        try:
            task_of(entry.files)
        except AdapterlabError as error:
            raise AdapterlabError(f"{_place(path, text, ('data', i))}: {error}") from error
    require(scorer_files(study), str(path), trust)
    known = sorted({*all_tasks(), *(entry.name for entry in study.data)})
    for name in study.tasks:
        if name not in known:
            raise UnknownNameError("task", name, known, where=_place(path, text, ("tasks",)))
    for i, contestant in enumerate(study.contestants):
        where = _place(path, text, ("contestants", i))
        method(contestant.adapter, where)
        try:
            contestant.build()
        except AdapterlabError as error:
            raise AdapterlabError(f"{where}: {error}") from error
    if study.reference not in [c.name for c in study.contestants]:
        raise UnknownNameError(
            "contestant", study.reference, [c.name for c in study.contestants], where=_place(path, text, ("reference",))
        )
    try:
        study.check_sweep()
    except AdapterlabError as error:
        raise AdapterlabError(f"{_place(path, text, ('sweep',))}: {error}") from error
    try:
        check_geometry(study)
    except GeometryError as error:
        raise AdapterlabError(f"{_place(path, text, ('geometry', error.key))}: {error}") from error
    return study


def scorer_files(study: Study) -> tuple[str, ...]:
    """Return the Python files of the user's scorers that a study's tasks name; each is checked without running it.

    Args:
        study: The study, whose own files are loaded.

    Raises:
        AdapterlabError: If a task has a metric that does not exist, or whose file does not define the function.
    """
    own = {entry.name: scorer_of(entry.metric) for entry in study.data}
    known = [
        own[name] if name in own else task(name).scorer for name in study.tasks if name in own or name in all_tasks()
    ]
    for scorer in known:
        check_scorer(scorer)
    return tuple(dict.fromkeys(scorer.file for scorer in known if scorer is not None))


def load_files(study: Study) -> None:
    """Register the adapters and tasks of the study's own files.

    Args:
        study: The study.

    Raises:
        AdapterlabError: If a file cannot be read or run.
    """
    for file in study.adapter_files:
        load_file(Path(file))
    for file in study.task_files:
        load_task_file(Path(file))


def _explain(error: ValidationError, path: Path, text: str) -> str:
    errors = error.errors()
    # A misspelt key is both unknown and missing under its right name; the former error is the useful one.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place, key = first["loc"], str(first["loc"][-1]) if first["loc"] else ""
    where = _place(path, text, place)
    if first["type"] == "extra_forbidden" and place in _REPLACED:
        return f"{where}: {key} {_REPLACED[place]}"
    if first["type"] == "extra_forbidden":
        tables = [_TABLES[step] for step in place[:-1] if isinstance(step, str)]
        return str(UnknownNameError("setting", key, (tables or [Study])[-1].model_fields, where=where))
    dotted = ".".join(map(str, place))
    reason = str(first["msg"]).removeprefix("Value error, ")
    given = repr(first["input"]).encode("ascii", "backslashreplace").decode()
    shown = given if len(given) <= SHOWN else f"{given[:SHOWN]}..."
    return f"{where}: {dotted + ': ' if dotted else ''}{reason}" + (f" (got {shown})" if dotted else "")


def _place(path: Path, text: str, location: tuple[int | str, ...]) -> str:
    """Return the file and the line of a location in the data, found by searching the text."""
    lines = text.split("\n")
    start = 0
    table = ""
    for step in location:
        if isinstance(step, int):
            headers = [i for i, line in enumerate(lines) if line.strip().startswith(f"[[{table}]]")]
            start = headers[step] if step < len(headers) else start
            continue
        table = step
        for i in range(start, len(lines)):
            line = lines[i].strip()
            if line.startswith((f"[{step}]", f"[[{step}]]")) or line.split("=")[0].strip() == step:
                start = i
                break
    return f"{path}:{start + 1}"
