"""Where a study is: a file, one that comes with the program, or the folder that its results are in."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.study.load import load_files, load_study
from adapterlab.lab.study.spec import Study
from adapterlab.resources import shipped
from adapterlab.tasks import add_task
from adapterlab.tasks.files import task_of

DEFAULT = "quick"
LEDGER, STUDY = "ledger.sqlite", "study.json"


def find_study(name: str) -> Path:
    """The file of a study: `name` itself if that is one, else the shipped study of that name.

    Raises `UnknownNameError` with the nearest names if there is neither.
    """
    path = Path(name)
    if path.is_file() or path.suffix == ".toml":
        return path
    if path.is_dir():
        raise AdapterlabError(f"{name} is a folder that no study was run into: give a study's file or name")
    known = [file.stem for file in shipped("studies", f"{DEFAULT}.toml").parent.glob("*.toml")]
    if name not in known:
        raise UnknownNameError("study", name, known)
    return shipped("studies", f"{name}.toml")


def open_study(name: str | None, out: Path | None) -> tuple[Study, Path]:
    """A study and the folder of its results; `name` may be that folder.

    Raises `AdapterlabError` if `name` is neither a study nor a folder that one was run into.
    """
    if name is not None and (Path(name) / LEDGER).is_file():
        return _recorded(Path(name)), Path(name)
    study = load_study(find_study(name or DEFAULT))
    return study, out or Path("runs") / study.name


def record_study(study: Study, folder: Path) -> None:
    """Leave word in the folder of what was run into it."""
    partial = folder / f"{STUDY}.partial"
    partial.write_text(study.model_dump_json(indent=1) + "\n", "utf-8")
    partial.replace(folder / STUDY)


def existing_ledger(folder: Path, study: str) -> Ledger:
    """The ledger in the folder; raises `AdapterlabError` if there is none, and makes none."""
    if not (folder / LEDGER).is_file():
        raise AdapterlabError(f"nothing has been run into {folder} yet: `{run_command(study, folder)}` begins it")
    return Ledger(folder / LEDGER)


def run_command(study: str, folder: Path) -> str:
    """The command that runs the study into the folder, or goes on with it."""
    usual = folder in (Path(study), Path("runs") / Path(study).stem)
    return f"adapterlab run {study}" + ("" if usual else f" --out {folder}")


def _recorded(folder: Path) -> Study:
    try:
        study = Study.model_validate_json((folder / STUDY).read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise AdapterlabError(
            f"{folder} does not say which study it is of: give the study, and --out {folder}"
        ) from error
    load_files(study)
    for entry in study.data:
        add_task(task_of(entry.files))
    return study
