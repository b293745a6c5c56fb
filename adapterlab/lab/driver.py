"""Run a study: play every contest, a worker for each trial, each outcome in the ledger as soon as it is known."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from adapterlab.lab.contest import Contest, Outcomes, Play, expected_steps, make_contests, play
from adapterlab.lab.ledger import Ledger
from adapterlab.lab.pool import LocalPool
from adapterlab.lab.progress import look
from adapterlab.lab.setup import Setup
from adapterlab.lab.sizing import fitted
from adapterlab.lab.study import Study
from adapterlab.lab.trial import FROZEN, Outcome, Trial
from adapterlab.models.loading import load_causal


@dataclass(frozen=True)
class Progress:
    """How far a study has come, in training steps."""

    done: int
    expected: int
    trials: int
    last: str


def environment() -> dict[str, Any]:
    """What a trial ran on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "device": "cpu",
    }


def prepare(study: Study) -> list[Contest]:
    """The study's contests at each budget, with every contestant sized to it; nothing has been run."""
    model = load_causal(study.model).model
    contests = []
    for part in study.at_each_budget:
        contests += make_contests(
            part, {entry.name: fitted(entry, model, entry.budget or part.budget) for entry in part.entrants}
        )
    return contests


def replay(contests: list[Contest], ledger: Ledger) -> list[Trial]:
    """Play the contests as far as the ledger goes; gives the trials that are still needed."""
    return [trial for contest in contests for trial in look(contest, ledger).missing]


def run_study(
    study: Study, ledger: Ledger, *, workers: int | None = None, watch: Callable[[Progress], None] = lambda _: None
) -> list[Contest]:
    """Run what the ledger lacks of the study; gives all its contests, finished.

    Whatever stops it (Ctrl-C, kill -9) loses the trials in flight and nothing else; the next call goes on from there.
    """
    contests = prepare(study)
    with ledger.sole_writer():
        known = replay([Contest(c.contestant, c.task, c.adapter, c.targets, c.study) for c in contests], ledger)
        if not known:
            replay(contests, ledger)
            return contests
        pool = LocalPool(workers, Setup(study.adapter_files, study.task_files))
        try:
            _drive(contests, ledger, pool, study, watch)
        finally:
            pool.close()
    return contests


def _drive(
    contests: list[Contest], ledger: Ledger, pool: LocalPool, study: Study, watch: Callable[[Progress], None]
) -> None:
    plays: dict[int, Play] = {}
    waiting: dict[int, dict[Trial, Outcome | None]] = {}
    owners: dict[Trial, list[int]] = {}
    here = environment()
    counted: set[Trial] = set()

    def need(i: int, trials: list[Trial]) -> None:
        """Contest `i` waits for `trials`; those that the ledger lacks go to the pool."""
        waiting[i] = {trial: ledger.outcome(trial) for trial in trials}
        for trial, outcome in waiting[i].items():
            if outcome is not None:
                counted.add(trial)
            elif trial in owners:
                owners[trial].append(i)
            else:
                owners[trial] = [i]
                pool.submit([trial])

    def go_on(i: int) -> None:
        """Hand contest `i` its outcomes while it has all that it waits for."""
        while i in plays and all(waiting[i].values()):
            try:
                trials = plays[i].send({t: o for t, o in waiting[i].items() if o is not None} or None)  # type: ignore[arg-type]
            except StopIteration:
                del plays[i]
            else:
                need(i, trials)

    for i, contest in enumerate(contests):
        plays[i], waiting[i] = play(contest), {}
        go_on(i)

    def expected() -> int:
        # Contests that differ in the budget alone, where it cannot be met, share their trials.
        trained = {(c.task, c.adapter, c.targets): c for c in contests if c.contestant != FROZEN}.values()
        settled = sum(_steps(c) for c in trained if c.finished)
        return settled + sum(expected_steps(study) for c in trained if not c.finished)

    def done() -> int:
        return sum(trial.steps for trial in counted)

    watch(Progress(done(), expected(), len(ledger), ""))
    for trial, outcome in pool:
        ledger.record(trial, outcome, here)
        counted.add(trial)
        for i in owners.pop(trial):
            waiting[i][trial] = outcome
            go_on(i)
        watch(Progress(done(), max(done(), expected()), len(ledger), f"{_name(trial, contests)} on {trial.task}"))


def _steps(contest: Contest) -> int:
    return contest.tuning_steps + sum(t.steps for runs in (contest.reported, contest.tenth) for t, _ in runs.values())


def _name(trial: Trial, contests: list[Contest]) -> str:
    import json

    return str(json.loads(trial.adapter)["name"])


__all__ = ["Outcomes", "Progress", "environment", "prepare", "replay", "run_study"]
