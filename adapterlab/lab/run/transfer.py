"""Carry a ledger to another machine: read exported trials into the results of a study, all or none.

>>> Imported(Path("runs/quick"), new=120, known=3, outdated=0).new
120
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.ledger.trial_file import TrialFile, read_trial_file
from adapterlab.lab.run.locate import LEDGER, STUDY, open_study
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.code_version import code_version
from adapterlab.lab.trial.spec import Trial
from adapterlab.tasks import task


@dataclass(frozen=True)
class Imported:
    """Outcome of an import."""

    folder: Path
    """Folder of the results."""
    new: int
    """Trials that the ledger did not have."""
    known: int
    """Trials that it had with the same content."""
    outdated: int
    """Trials of the file that ran with other code than this version's, which a run does not use."""


def import_trials(file: Path, source: str | Path | Study | None = None, out: Path | None = None) -> Imported:
    """Read exported trials into the results of a study.

    Args:
        file: File that `write_trial_file` wrote.
        source: A `Study`, a file, a shipped study's name, or a folder of results; the study that the file names if None.
            Another study takes the trials alone, and uses those that it asks for too.
        out: Folder of the results; `runs/NAME` if None.

    Returns:
        What was imported.

    Raises:
        AdapterlabError: If the file cannot be used or contradicts the ledger; nothing is written then.
    """
    found = read_trial_file(file)
    files = dict(found.files)
    if source is None:
        folder = out or Path("runs") / _study_of(found).name
    else:
        study, folder = open_study(source, out, reading=True)
        if STUDY in files and _study_of(found).name != study.name:
            files = {}  # the design, precision and locks are those of another study
        files[STUDY] = study.model_dump_json(indent=1) + "\n"
    fresh = not folder.exists()
    ledger = Ledger(folder / LEDGER)
    with ledger.sole_writer():
        new = ledger.merge(found.records)
        for name, text in files.items():
            if fresh or not (folder / name).is_file():
                write_text(folder / name, text)
    outdated = count_outdated(record.finished.trial for record in found.records)
    return Imported(folder, new, len(found.records) - new, outdated)


def count_outdated(trials: Iterable[Trial]) -> int:
    """Return the number of trials that ran with other code than this version's.

    Trials of a user's own adapter or task are not counted: their code is known once the study is opened.

    Args:
        trials: The trials.
    """
    return sum(current not in (None, trial.code) for trial in trials for current in [current_code(trial)])


def current_code(trial: Trial) -> str | None:
    """Return the hash of this version's code for a trial, or None for an adapter or task that does not come with it.

    Args:
        trial: The trial.
    """
    try:
        return code_version(trial.method, task(trial.task))
    except AdapterlabError:
        return None


def _study_of(found: TrialFile) -> Study:
    if STUDY not in found.files:
        raise AdapterlabError(f"{found.path} does not name its study: give the study after the file")
    try:
        return Study.model_validate_json(found.files[STUDY])
    except ValidationError as error:
        first = error.errors()[0]
        raise AdapterlabError(
            f"the study in {found.path} cannot be used ({'.'.join(map(str, first['loc']))}: {first['msg']}): "
            "give the study after the file"
        ) from error
