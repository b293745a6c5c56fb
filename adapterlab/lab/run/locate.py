"""Locate a study: a file, a shipped study's name, a `Study` itself, or the folder of its results.

>>> find_study("quick").name
'quick.toml'
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Study
from adapterlab.resources import shipped

DEFAULT = "quick"
"""Name of the study that runs if none is named."""
LEDGER, STUDY = "ledger.sqlite", "study.json"
"""Names of files in a folder of results."""


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


def open_study(source: str | Path | Study | None, out: Path | None = None) -> tuple[Study, Path]:
    """Return a study and the folder of its results.

    Args:
        source: A `Study`, a file, a shipped study's name, or a folder of results; the quick study if None.
        out: The folder of results; `runs/NAME` if None.

    Raises:
        AdapterlabError: If `source` is none of these, or the study is not valid.
        UnknownNameError: If there is neither a file nor a shipped study of that name.
    """
    if isinstance(source, Study):
        names = [contestant.name for contestant in source.contestants]
        if source.reference not in names:
            raise UnknownNameError("contestant", source.reference, names, where=f"reference of study {source.name}")
        return source, out or Path("runs") / source.name
    if source is not None and (Path(source) / LEDGER).is_file():
        return _recorded(Path(source)), Path(source)
    study = load_study(find_study(str(source or DEFAULT)))
    return study, out or Path("runs") / study.name


def record_study(study: Study, folder: Path) -> None:
    """Write the study to the folder of its results, so that the folder alone identifies it.

    Args:
        study: The study.
        folder: The folder of its results.
    """
    partial = folder / f"{STUDY}.partial"
    partial.write_text(study.model_dump_json(indent=1) + "\n", "utf-8")
    partial.replace(folder / STUDY)


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


def _recorded(folder: Path) -> Study:
    try:
        return Study.model_validate_json((folder / STUDY).read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise AdapterlabError(
            f"{folder} does not record which study its results belong to: give the study, and --out {folder}"
        ) from error
