"""Locate a study: a file, a shipped study's name, a `Study` itself, or the folder of its results.

>>> find_study("quick").name
'quick.toml'
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

from pydantic import ValidationError

from adapterlab.adapters import is_known
from adapterlab.errors import AdapterlabError, AdapterlabWarning, UnknownNameError
from adapterlab.files import write_text
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.study.load import load_files, load_study, scorer_files
from adapterlab.lab.study.spec import Study
from adapterlab.resources import shipped
from adapterlab.tasks import all_tasks
from adapterlab.trust import require, untrusted

DEFAULT = "quick"
"""Name of the study that runs if none is named."""
StudySource = str | Path | Study | None
"""A `Study`, a TOML file, the name of a shipped study, a folder of results, or None for the quick study."""
LEDGER, STUDY, PLANNING = "ledger.sqlite", "study.json", "planning.json"
"""Names of files in a folder of results; the last is there while `tune` plans a study."""


def find_study(name: str) -> Path:
    """Return the file of a study.

    Args:
        name: A file, or the name of a shipped study.

    Raises:
        AdapterlabError: If `name` is a folder without results.
        UnknownNameError: If there is neither a file nor a shipped study of that name.
    """
    path = Path(name)
    if path.is_file() or path.suffix == ".toml":
        return path
    if path.is_dir():
        raise AdapterlabError(f"{name} is a folder without results: give the file or the name of a study")
    known = [file.stem for file in shipped("studies", f"{DEFAULT}.toml").parent.glob("*.toml")]
    if name not in known:
        raise UnknownNameError("study", name, known)
    return shipped("studies", f"{name}.toml")


def open_study(
    source: str | Path | Study | None, out: Path | None = None, *, trust: bool = False, reading: bool = False
) -> tuple[Study, Path]:
    """Return a study and the folder of its results.

    Args:
        source: A `Study`, a file, a shipped study's name, or a folder of results; the quick study if None.
        out: The folder of results; `runs/NAME` if None.
        trust: True to trust the Python files that the study names.
        reading: True if only results are read: then a folder whose study names Python files that are not trusted here is
            opened without the contestants and tasks that need them, with a warning, in place of the error.

    Raises:
        AdapterlabError: If `source` is none of these, or the study is not valid.
        UnknownNameError: If there is neither a file nor a shipped study of that name.
        UntrustedCodeError: If the study names a Python file that is not trusted.
    """
    if isinstance(source, Study):
        names = [contestant.name for contestant in source.contestants]
        if source.reference not in names:
            raise UnknownNameError("contestant", source.reference, names, where=f"reference of study {source.name}")
        return source, out or Path("runs") / source.name
    if source is not None and (Path(source) / LEDGER).is_file():
        folder, study = Path(source), _recorded(Path(source))
        files = (*study.adapter_files, *study.task_files)
        if reading and not trust and untrusted(files):
            return _without_code(study, folder), folder
        require(files, str(folder), trust)
        load_files(study)
        if not reading:  # what is only read runs no scorer
            require(scorer_files(study), str(folder), trust)
        return study, folder
    study = load_study(find_study(str(source or DEFAULT)), trust=trust)
    return study, out or Path("runs") / study.name


def results_folder(source: str | Path | None, out: Path | None = None) -> Path:
    """Return the folder of a study's results, without checking the study if the source is that folder.

    Args:
        source: A file, a shipped study's name, or a folder of results; the quick study if None.
        out: The folder of results; `runs/NAME` if None.
    """
    if source is not None and (Path(source) / LEDGER).is_file():
        return Path(source)
    return open_study(source, out, reading=True)[1]


def planning_stage(folder: Path) -> tuple[str, float] | None:
    """Return what `tune` is doing while it plans a study in a folder, and the seconds since it began; None otherwise.

    Args:
        folder: The folder of results.
    """
    try:
        found = json.loads((folder / PLANNING).read_text("utf-8"))
        if not Ledger(folder / LEDGER).is_locked():
            return None  # left by a process that was killed
        return str(found["stage"]), time.time() - float(found["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_study(study: Study, folder: Path) -> None:
    """Write the study to the folder of its results, so that the folder alone identifies it.

    Args:
        study: The study.
        folder: The folder of its results.
    """
    write_text(folder / STUDY, study.model_dump_json(indent=1) + "\n")


def called(source: StudySource, study: Study) -> str:
    """Return the name of a study for commands in messages.

    Args:
        source: What the user gave.
        study: The study.
    """
    return study.name if source is None or isinstance(source, Study) else str(source)


def existing_ledger(folder: Path, study: str) -> Ledger:
    """Return the ledger in a folder.

    Args:
        folder: The folder of results.
        study: What the user called the study, for the error message.

    Raises:
        AdapterlabError: If there is no ledger, or it cannot be read.
    """
    if not (folder / LEDGER).is_file():
        raise AdapterlabError(f"{folder} has no results yet: run `{run_command(study, folder)}` first")
    return Ledger(folder / LEDGER)


def run_command(study: str, folder: Path) -> str:
    """Return the command that starts or continues a study.

    Args:
        study: What the user called the study.
        folder: The folder of its results.
    """
    usual = folder in (Path(study), Path("runs") / Path(study).stem)
    return f"adapterlab run {study}" + ("" if usual else f" --out {folder}")


def _without_code(study: Study, folder: Path) -> Study:
    """Return a study without the contestants and tasks that its own Python files define, and warn of what is left out."""
    own = {entry.name for entry in study.data}
    adapters = [entry for entry in study.contestants if is_known(entry.adapter)]
    tasks = [task for task in study.tasks if task in all_tasks() or task in own]
    lost = [entry.name for entry in study.contestants if entry not in adapters]
    lost += [task for task in study.tasks if task not in tasks]
    if study.reference not in [entry.name for entry in adapters] or not tasks:
        require((*study.adapter_files, *study.task_files), str(folder), trusted=False)
        raise AdapterlabError(f"{folder} needs {', '.join(lost)}, whose Python files are not on this machine")
    if lost:
        warnings.warn(
            f"{folder}: left out {', '.join(lost)}, since the Python files that define them are not trusted on this machine",
            AdapterlabWarning,
            stacklevel=4,
        )
    return study.model_copy(
        update={"contestants": tuple(adapters), "tasks": tuple(tasks), "adapter_files": (), "task_files": ()}
    )


def _recorded(folder: Path) -> Study:
    try:
        return Study.model_validate_json((folder / STUDY).read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise AdapterlabError(
            f"{folder} does not record which study its results belong to: give the study, and --out {folder}"
        ) from error
