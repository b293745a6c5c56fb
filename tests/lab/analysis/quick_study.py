"""The quick study as it was run once, replayed from its recorded trials under the code of today. Nothing is trained.

`quick_ledger.json.gz` holds the text of the study, the rates at which its searches started (and whether they were trusted),
and its trials with their outcomes; `python -m tests.lab.analysis.quick_study FOLDER` writes it from a folder of results. The
id of a trial hashes the code, the model and the data, so the recorded trials are not looked up by id: each trial that the
study asks for is found by its contestant, task, rate, seed, steps and what it scores.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from adapterlab import argmap
from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters.base import Adapter
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.prepare import PreparedStudy, prepare
from adapterlab.lab.run.rate_priors import Start
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.run.sizing import SizedAdapter
from adapterlab.lab.run.study_play import play_study
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.spec import FROZEN, Finished, Outcome, Trial
from adapterlab.report.page import write_report
from adapterlab.report.terminal import show
from adapterlab.report.verdict_json import to_json
from adapterlab.resources import shipped
from adapterlab.verdict.study_analysis import Analysis, analyse

DATA = Path(__file__).with_name("quick_ledger.json.gz")
BUILT_IN_MAP = "natural_manifold.argdown"


@dataclass(frozen=True)
class Reported:
    """The analysis and what the three renderers make of it."""

    analysis: Analysis
    verdict: dict[str, Any]
    page: str
    terminal: str
    trials: dict[str, tuple[str, str, float, int]]
    """By id, the contestant, task, rate and seed of each trial."""


@cache
def recorded() -> dict[str, Any]:
    """The plain data of the file."""
    data: dict[str, Any] = json.loads(gzip.decompress(DATA.read_bytes()))
    return data


class Resolved(ResolvedStudy):
    """The study as it was resolved when it ran: its searches start where they started then."""

    def start(self, contestant: str, adapter: Adapter | None) -> Start:
        return super().start(contestant, adapter) if adapter is None else Start(*recorded()["starts"][contestant])


def _prepared() -> PreparedStudy:
    """The study with the adapters that were recorded, so that no model is loaded to size them."""
    study = Study.model_validate(tomllib.loads(recorded()["study"]))
    sized = {row["contestant"]: _sized(row) for row in recorded()["trials"] if row["contestant"] != FROZEN}
    resolved = Resolved(**{field.name: getattr(resolve(study), field.name) for field in fields(ResolvedStudy)})
    return PreparedStudy(resolved, {Cell(): sized}, recorded()["model_parameters"])


def _sized(row: dict[str, Any]) -> SizedAdapter:
    settings = json.loads(row["trial"]["adapter"])
    return SizedAdapter(make_adapter(settings.pop("name"), **settings), row["outcome"]["parameters"])


def replayed(folder: Path, trials: Sequence[Mapping[str, Any]] = ()) -> tuple[PreparedStudy, list[Contest], Ledger]:
    """The finished contests, over a new ledger in `folder` that holds the recorded trials under their ids of today.

    A study that asks for a trial that was not recorded fails. `trials` stand in place of the recorded ones.
    """
    known = {_key(row["contestant"], row["trial"]): row for row in trials or recorded()["trials"]}
    study, ledger = _prepared(), Ledger(folder / "ledger.sqlite")

    def outcome(contest: Contest, trial: Trial) -> Outcome:
        row = known.get(_key(contest.contestant, trial.to_json()))
        if row is None:
            raise AssertionError(
                f"the study asks for a trial that {DATA.name} lacks: {contest.contestant} on {trial.task}, rate "
                f"{trial.lr:g}, seed {trial.seed}, {trial.steps} steps; record the quick study anew"
            )
        found = Outcome.from_json(row["outcome"])
        ledger.record(Finished(trial, found, recorded()["environment"], row["wall_seconds"]))
        return found

    return study, play_study(study.contests(), outcome), ledger


def _key(contestant: str, trial: dict[str, Any]) -> tuple[object, ...]:
    scored = tuple(trial["path"]), bool(trial["rows"])
    return contestant, trial["task"], trial["lr"], trial["seed"], trial["steps"], trial["share"], *scored


def reported(folder: Path, trials: Sequence[Mapping[str, Any]] = ()) -> Reported:
    """The study analysed with the built-in map and rendered, with its files in `folder`."""
    study, contests, ledger = replayed(folder, trials)
    analysis = analyse(study, contests, ledger, argmap.load(shipped("maps", BUILT_IN_MAP)))
    write_report(analysis, folder / "report.html")
    console = Console(file=io.StringIO(), width=80)
    show(analysis, console)
    return Reported(
        analysis,
        json.loads(json.dumps(to_json(analysis))),
        (folder / "report.html").read_text(),
        console.file.getvalue(),
        {t.id: (c.contestant, t.task, t.lr, t.seed) for c in contests for t in c.trials},
    )


def record(results: Path) -> None:
    """Write the file from the results of a study that has been run."""
    study = load_study(shipped("studies", "quick.toml"))
    prepared, ledger = prepare(study, results), Ledger(results / "ledger.sqlite")
    found = {trial.id: (outcome, environment) for trial, outcome, environment in ledger}
    rows, environments = [], []
    for contest in play_study(prepared.contests(), lambda contest, trial: found[trial.id][0]):
        for trial in contest.trials:
            outcome, environment = found[trial.id]
            environments.append(environment)
            rows.append(
                {
                    "contestant": contest.contestant,
                    "trial": trial.to_json(),
                    "outcome": outcome.to_json(),
                    "wall_seconds": ledger.wall_seconds(trial),
                }
            )
    assert all(environment == environments[0] for environment in environments)
    starts = {c.contestant: (c.start, c.trusted) for c in prepared.contests() if c.adapter is not None}
    data = {
        "study": shipped("studies", "quick.toml").read_text(),
        "starts": starts,
        "model_parameters": prepared.model_parameters,
        "environment": environments[0],
        "trials": rows,
    }
    DATA.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    record(Path(sys.argv[1]))
