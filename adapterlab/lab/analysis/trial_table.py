"""The trials of a study as a table for other programs, with the settings and the outcome of each trial.

>>> from tempfile import mkdtemp
>>> path = Path(mkdtemp()) / "trials.csv"
>>> write_table(pd.DataFrame({"trial": ["1f"], "seed": [1], "chosen": [True]}), path, "csv")
>>> read_csv(path).dtypes.astype(str).to_dict()
{'trial': 'string', 'seed': 'Int64', 'chosen': 'boolean'}
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import pandas as pd

from adapterlab.errors import AdapterlabError
from adapterlab.files import writing
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.progress import replay
from adapterlab.lab.run.sizing import budget_flag
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.tasks.base import Part

Cells = dict[str, Any]
"""Values of one row by column."""
TEXTS = (
    *("trial", "contestant", "round", "cell", "budget_flag", "status", "note"),
    *("curve", "along", "path", "rows", "answers"),
)
DECIDES = (
    *("model", "model_hash", "task", "data", "adapter", "settings", "targets", "code", "precision", "parts"),
    *("metric", "scorer"),
)
WHOLE = (
    *("budget", "seed", "steps", "batch", "length", "windows", "curve_every", "parameters", "peak_bytes"),
    *("max_new_tokens", "metric_rows"),
)
REAL = ("lr", "share", "seconds", "attach_seconds", "wall_seconds", "generating_seconds", "geometry_seconds")
YES_OR_NO = ("chosen", "ranked")
GEOMETRY = "geometry "
"""Beginning of the columns with the geometry of the trained change."""
FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""Beginnings of a cell that a spreadsheet takes for a formula."""
SCORED = tuple(part for part in Part if part != Part.TRAIN)


def trial_table(prepared: PreparedStudy, ledger: Ledger) -> pd.DataFrame:
    """Return the trials of a ledger with the role of each in the study.

    A trial that several contests share (one adapter under two names, or one that has the same size at two budgets) has a row
    for each of them; a trial that no contest of the study uses has a row without a contestant.

    Args:
        prepared: The study.
        ledger: Its ledger.

    Returns:
        The table. Losses and accuracies have one column for each part, such as `test_loss`, and so have the means of the
        metric of answers, such as `test_answers`; each number of a change's geometry has one, such as
        `geometry stable_rank`; lists are JSON.
    """
    roles: dict[Trial, list[Cells]] = {}
    for state in replay(prepared.contests(), ledger):
        for trial in state.done:
            roles.setdefault(trial, []).append(_role(trial, state.contest))
    unused: list[Cells] = [dict.fromkeys(("contestant", "round", "budget", "cell", "ranked", "chosen"))]
    rows = [
        {
            "trial": trial.id,
            **role,
            **_trial(trial),
            **_outcome(outcome, role["budget"]),
            "wall_seconds": ledger.wall_seconds(trial),
            **{f"environment_{key}": str(value) for key, value in environment.items()},
        }
        for trial, outcome, environment in ledger
        for role in roles.get(trial, unused)
    ]
    frame = pd.DataFrame(rows)
    return frame.astype({name: kind for name, kind in _types(frame).items() if name in frame})


def write_table(frame: pd.DataFrame, path: Path, form: Literal["parquet", "csv"]) -> None:
    """Write a table to a file, whole or not at all.

    Args:
        frame: The table.
        path: The file.
        form: Its format.

    Raises:
        AdapterlabError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as partial:
            if form == "parquet":
                frame.to_parquet(partial, index=False)
            else:
                texts = {
                    name: frame[name].map(inert, na_action="ignore") for name in frame if frame[name].dtype == "string"
                }
                frame.assign(**texts).to_csv(partial, index=False)
    except OSError as error:
        raise AdapterlabError(f"cannot write {path}: {error.strerror or error}") from error


def inert(cell: str) -> str:
    """Return a cell of a CSV file such that a spreadsheet does not take it for a formula.

    >>> inert("=cmd|x"), inert("lora"), inert("'=x")
    ("'=cmd|x", 'lora', "''=x")

    Args:
        cell: The text.
    """
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")  # a carriage return alone would end the row
    return f"'{cell}" if cell.startswith(("'", *FORMULA)) and not _is_number(cell) else cell


def _restored(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(("'", *FORMULA)) else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_csv(path: Path) -> pd.DataFrame:
    """Return a table that `write_table` wrote as CSV, with its original types.

    Args:
        path: The file.
    """
    header = pd.read_csv(path, nrows=0)
    frame = pd.read_csv(path, dtype={name: kind for name, kind in _types(header).items() if name in header})
    texts = [name for name in frame if frame[name].dtype == "string"]
    # A column without any text would lose its type.
    return frame.assign(**{n: frame[n].map(_restored, na_action="ignore").astype(frame[n].dtype) for n in texts})


def _types(frame: pd.DataFrame) -> dict[str, str]:
    scores = [f"{part}_{score}" for part in SCORED for score in ("loss", "accuracy", "answers")]
    environment = [name for name in frame.columns if str(name).startswith("environment_")]
    geometry = [name for name in frame.columns if str(name).startswith(GEOMETRY)]
    return {
        **dict.fromkeys((*TEXTS, *DECIDES, *environment), "string"),
        **dict.fromkeys(WHOLE, "Int64"),
        **dict.fromkeys((*REAL, *scores, *geometry), "Float64"),
        **dict.fromkeys(YES_OR_NO, "boolean"),
    }


def _role(trial: Trial, contest: Contest) -> Cells:
    """Return the role of a trial in a contest; `chosen` is True if its rate is the selected one."""
    study = contest.study
    rungs = dict(zip(study.tuning.seeds, ("first", "second"), strict=True))
    rungs |= dict.fromkeys(study.tuning.regret_seeds, "regret")
    return {
        "contestant": contest.contestant,
        "round": rungs.get(trial.seed, "report" if trial.share == 1 else "tenth"),
        "budget": study.budget,
        "cell": contest.resolved.cell.words,
        "ranked": study.competes(contest.contestant),
        "chosen": trial.lr == contest.rate,
    }


def _trial(trial: Trial) -> Cells:
    settings = json.loads(trial.adapter)
    fields = asdict(trial) | {
        "adapter": settings.pop("name"),
        "settings": json.dumps(settings, sort_keys=True),
        "targets": trial.targets if isinstance(trial.targets, str) else json.dumps(trial.targets),
        "parts": json.dumps(trial.parts),
        "metric": trial.metric or None,
        "scorer": trial.scorer or None,
    }
    fields.pop("path")  # the strengths asked for; the outcome has the scores at them
    fields.pop("rows")  # whether losses of rows were asked for; the outcome has them
    fields.pop("geometry")  # what was asked for; the outcome has the numbers
    return fields


def _outcome(outcome: Outcome, budget: int | None) -> Cells:
    fields = asdict(outcome)
    scores, geometry = fields.pop("scores"), fields.pop("geometry")
    return (
        fields
        | {f"{GEOMETRY}{name}": value for name, value in geometry.items()}
        | {
            f"{part}_{name}": scores[part][i] if part in scores else None
            for part in SCORED
            for i, name in enumerate(("loss", "accuracy"))
        }
        | {
            "budget_flag": (outcome.parameters and budget_flag(outcome.parameters, budget)) or None,
            "note": outcome.note or None,
            "curve": json.dumps(outcome.curve),
            "along": json.dumps(outcome.along),
            "path": json.dumps(outcome.path),
            "rows": json.dumps(outcome.rows),
            "answers": json.dumps(outcome.answers),
        }
        | {
            f"{part}_answers": fmean(outcome.answers[part]) if outcome.answers.get(part) else None
            for part in (Part.TEST, Part.OOD)
        }
    )
