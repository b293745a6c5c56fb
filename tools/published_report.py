"""Writes the report and the verdict of published results anew from their trials, by today's analysis.

    python tools/published_report.py results/geometry-1/study

A trial's id holds the hash of the code that ran it, and the method's settings. Both may have changed since, so the ids are
looked up under the hashes that the published trials state, and a setting that a method has since got stands at its default.
A map or a lock beside the trials is the one that they are judged by.
It is refused if today's search would ask for other trials than those that ran: then the report would lack some.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run import resolve
from adapterlab.lab.run.transfer import import_trials
from adapterlab.lab.trial.spec import Trial
from adapterlab.report.page import write_report
from adapterlab.report.verdict_json import write_verdict
from adapterlab.tasks.base import Task
from adapterlab.verdict.stored_results import StoredResults


@contextmanager
def code_of(ledger: Ledger) -> Iterator[None]:
    """Take the code of the trials in a ledger for today's, within a `with` block.

    Args:
        ledger: The ledger.
    """
    trials = [trial for trial, _, _ in ledger]
    adapters = {trial.adapter for trial in trials}
    codes = {(trial.method, trial.task): trial.code for trial in trials}
    geometry = {json.loads(trial.geometry)["code"] for trial in trials if trial.geometry}
    today = resolve.code_version, resolve.geometry_version, resolve.Trial

    def recorded(method: str, task: Task) -> str:
        return codes.get((method, task.name)) or today[0](method, task)

    def trial_of(**fields: Any) -> Trial:
        found = (given for given in adapters if _same_settings(given, fields["adapter"]))
        return Trial(**{**fields, "adapter": next(found, fields["adapter"])})

    resolve.code_version, resolve.Trial = recorded, trial_of
    if geometry:
        resolve.geometry_version = lambda: next(iter(geometry))
    try:
        yield
    finally:
        resolve.code_version, resolve.geometry_version, resolve.Trial = today


def _same_settings(published: str, now: str) -> bool:
    """Return True if an adapter's settings are those published, and those that it has got since have their defaults."""
    then, today = json.loads(published), json.loads(now)
    if then == today or then["name"] != today["name"]:
        return then == today
    defaults = adapter(today["name"]).settings()
    return {**defaults, **then} == today


def _only(folder: Path, pattern: str) -> Path | None:
    return next(iter(sorted(folder.glob(pattern))), None)


def rewrite(folder: Path) -> None:
    """Write `report.html` and `verdict.json` of published results anew.

    Args:
        folder: The results, with `trials.parquet`.

    Raises:
        AdapterlabError: If today's search asks for trials that did not run.
    """
    with TemporaryDirectory() as place:
        imported = import_trials(folder / "trials.parquet", out=Path(place) / "run")
        with code_of(Ledger(imported.folder / "ledger.sqlite")):
            results = StoredResults.open(
                str(imported.folder), None, _only(folder, "*.argdown"), lock=_only(folder, "*.lock.json")
            )
            found = results.require()
            if found.remark:
                raise AdapterlabError(f"{folder}: today's search asks for trials that did not run: {found.remark}")
            analysis = results.analyse(found)
        write_report(analysis, folder / "report.html")
        write_verdict(analysis, folder / "verdict.json")


if __name__ == "__main__":
    try:
        for name in sys.argv[1:]:
            rewrite(Path(name))
    except AdapterlabError as error:
        sys.exit(f"{error}")
