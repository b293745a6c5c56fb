"""The geometry of a change that a user names, with its results in a folder.

>>> geometry_of("embedded")
Traceback (most recent call last):
adapterlab.errors.AdapterlabError: embedded is a whole model, which needs the model that it was trained from: give --base
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import Change
from adapterlab.geometry.measures.base import DRAWS
from adapterlab.geometry.plan import Plan
from adapterlab.geometry.result import GeometryResult
from adapterlab.geometry.result_file import read_result, write_result
from adapterlab.geometry.resume import Record
from adapterlab.geometry.run import Watch, run_geometry
from adapterlab.geometry.score import LENGTH, WINDOWS, Scoring
from adapterlab.geometry.sources import identity_of, open_change
from adapterlab.harness.targets import find_target
from adapterlab.lab.run.locate import LEDGER
from adapterlab.models.loading import load
from adapterlab.tasks import task as task_named
from adapterlab.tasks.base import Task
from adapterlab.tasks.files import task_of
from adapterlab.tasks.parts import FileData
from adapterlab.tuning.winner import WINNER

RESULT, PROGRESS = "geometry.json", "progress.jsonl"
"""Files of the result, and of the parts of it that are finished."""


def geometry_of(
    tuned: str | Path | Change,
    base: str | Path | None = None,
    *,
    contestant: str | None = None,
    task: str | Task | None = None,
    texts: str | Path | None = None,
    budgets: Sequence[int] = (),
    score_at: Sequence[int] | Literal["all", "largest"] = "all",
    rows: int = WINDOWS,
    hypotheses: Sequence[str] | None = None,
    measures: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    out: str | Path | None = None,
    watch: Watch = lambda *_: None,
) -> GeometryResult:
    """Measure a weight change, and project it on hypotheses at equal numbers of parameters.

    Args:
        tuned: A model, the folder of an adapter of this package or PEFT, a folder of results, or a `Change`.
        base: The model that it was trained from; for adapters, the one that their folder names if None.
        contestant: Contestant of a folder of results, which is trained again with its first reported seed; the saved
            winner if None.
        task: Task that the projected models are scored on; none if None.
        texts: Rows of your own in place of a task: a file or folder, as for `adapterlab.tune`.
        budgets: Numbers of parameters to project at; five from rank 1 to rank 32 of low rank if empty.
        score_at: Numbers of parameters at which projected models are scored, which takes longest for a large model.
        rows: Examples of each part of the task that models are scored on, at most.
        hypotheses: Names of hypotheses, or of adapters that state them; all if None.
        measures: Names of measures; all if None.
        draws: Random changes that a null is estimated from.
        seed: Seed of the draws and of the starts of fits.
        out: Folder for `geometry.json`, and for the finished parts, from which a run that was stopped goes on; nothing is
            written if None.
        watch: Called with a stage in words, and how many of its parts are done and there are.

    Returns:
        The result.

    Raises:
        AdapterlabError: A source, the task or a choice cannot be used as given, or nothing has changed.
    """
    at = score_at if isinstance(score_at, str) else tuple(score_at)
    every = measures is None
    plan = Plan(tuple(budgets), _tuple(hypotheses), _tuple(measures), draws, seed, at, sharing=every, activations=every)
    plan.check()
    chosen = _task(task, texts)
    if chosen is None and at != "all":
        raise AdapterlabError(
            "nothing is scored without a task: give --task or --texts with --score-at, or leave it out"
        )
    if not isinstance(tuned, Change):
        tuned, base = _resolved(str(tuned), None if base is None else str(base), contestant)
        identity = identity_of(tuned, base)
        change = open_change(tuned, base)
    else:
        change, identity = tuned, ""
        if out is not None:
            raise AdapterlabError(
                "a change in memory has no files to resume by: leave out, and write the result yourself"
            )
    if out is not None:
        _refuse_other_result(Path(out) / RESULT, change)
    scoring = None
    if chosen is not None:
        watch("loading the base model", 0, 1)
        model, processor = load(str(change.base_name if base is None else base), chosen.head)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        scoring = Scoring(model, processor, chosen, windows=rows)
    digest = hashlib.blake2b(digest_size=12)
    scored = "" if chosen is None else f"{chosen.name} {chosen.fingerprint()} {LENGTH} {rows}"
    digest.update(f"{identity} {plan.identity} {scored}".encode())
    with Record(None if out is None else Path(out) / PROGRESS, digest.hexdigest()) as record:
        result = run_geometry(change, plan, scoring=scoring, record=record, watch=watch)
        if out is not None:
            write_result(result, Path(out) / RESULT)
    return result


def default_folder(tuned: str) -> Path:
    """Return the folder that results are written to if none is given.

    Args:
        tuned: The changed model, as the user named it.

    >>> default_folder("runs/mine/winner").as_posix()
    'runs/geometry/mine-winner'
    """
    parts = [part for part in Path(tuned).parts if part not in ("/", "..", ".")]
    return Path("runs") / "geometry" / ("-".join(parts[-2:]) or "change")


def _resolved(tuned: str, base: str | None, contestant: str | None) -> tuple[str, str | None]:
    """Return the adapter's folder and the base of a folder of results; other names as they are."""
    place = Path(tuned)
    if (place / LEDGER).is_file() or (place / WINNER).is_dir() or contestant is not None:
        target = find_target(tuned, base, contestant)
        return str(target.adapter or tuned), target.model
    return tuned, base


def _task(task: str | Task | None, texts: str | Path | None) -> Task | None:
    if task is not None and texts is not None:
        raise AdapterlabError("a task and texts are both given: give --task or --texts")
    if texts is not None:
        if not Path(texts).exists():
            raise AdapterlabError(f"there is no {texts}: give a file or folder with rows of text")
        return task_of(FileData(Path(texts).stem or "texts", str(Path(texts).resolve())))
    return task_named(task) if isinstance(task, str) else task


def _refuse_other_result(file: Path, change: Change) -> None:
    """Raise an error if a folder holds the result of another change, which would be overwritten."""
    if not file.exists():
        return
    other = read_result(file)
    if (other.base, other.tuned) != (change.base_name, change.tuned_name):
        raise AdapterlabError(f"{file} is the geometry of {other.tuned} from {other.base}: give another --out")


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
