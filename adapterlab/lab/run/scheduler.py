"""Run a study: play every contest, a worker for each trial, each outcome in the ledger as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest, Play, expected_steps, make_contests, play
from adapterlab.lab.run.executors import Executor, executor_for
from adapterlab.lab.run.progress import look
from adapterlab.lab.run.sizing import fitted
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.loading import load
from adapterlab.tasks import task


@dataclass(frozen=True)
class Progress:
    """How far a study has come, in training steps."""

    done: int
    expected: int
    trials: int
    last: str


def prepare(study: Study) -> list[Contest]:
    """The study's contests at each budget, with every contestant sized to it; nothing has been run."""
    model = load(study.model, task(study.tasks[0]).head).model
    contests = []
    for part in study.at_each_budget:
        contests += make_contests(
            part, {entry.name: fitted(entry, model, entry.budget or part.budget) for entry in part.entrants}
        )
    return contests


def worker_config(study: Study) -> WorkerConfig:
    """What a worker must know to run the study's trials, but for its device."""
    return WorkerConfig(
        study.adapter_files,
        study.task_files,
        tuple(entry.files for entry in study.data),
        micro_batch=study.limits.micro_batch,
        checkpointing=study.limits.checkpointing,
    )


def replay(contests: list[Contest], ledger: Ledger) -> list[Trial]:
    """Play the contests as far as the ledger goes; gives the trials that are still needed."""
    return [trial for contest in contests for trial in look(contest, ledger).missing]


def run_study(
    study: Study,
    ledger: Ledger,
    *,
    wait: Callable[[], None] | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> list[Contest]:
    """Run what the ledger lacks of the study; gives all its contests, finished.

    Whatever stops it (Ctrl-C, kill -9, a full disk) loses the trials in flight and nothing else; the next call goes on from
    there. If another run writes the ledger, `wait` is called and that run is waited for; without `wait` it is an error.
    """
    contests = prepare(study)
    with ledger.sole_writer(wait):
        known = replay([Contest(c.contestant, c.task, c.adapter, c.targets, c.study) for c in contests], ledger)
        if not known:
            replay(contests, ledger)
            return contests
        limit = TimeLimit(study.limits.trial_seconds)
        executor = executor_for(study.limits, worker_config(study), limit)
        try:
            _drive(contests, ledger, executor, study, limit, watch)
        finally:
            executor.close()
    return contests


def _drive(
    contests: list[Contest],
    ledger: Ledger,
    executor: Executor,
    study: Study,
    limit: TimeLimit,
    watch: Callable[[Progress], None],
) -> None:
    plays: dict[int, Play] = {}
    waiting: dict[int, dict[Trial, Outcome | None]] = {}
    owners: dict[Trial, list[int]] = {}
    counted: set[Trial] = set()

    def need(i: int, trials: list[Trial]) -> None:
        """Contest `i` waits for `trials`; those that the ledger lacks go to the pool."""
        waiting[i] = {trial: ledger.outcome(trial) for trial in trials}
        fresh = []
        for trial, outcome in waiting[i].items():
            if outcome is not None:
                counted.add(trial)
                if (seconds := ledger.wall_seconds(trial)) is not None:
                    limit.learn(trial, seconds)
            elif trial in owners:
                owners[trial].append(i)
            else:
                owners[trial] = [i]
                fresh.append(trial)
        executor.submit(fresh)

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

    ledger.note_in_hand(executor.in_hand())
    watch(Progress(done(), expected(), len(ledger), ""))
    for finished in executor:
        ledger.record(finished)
        trial, outcome = finished.trial, finished.outcome
        if finished.wall_seconds is not None:
            limit.learn(trial, finished.wall_seconds)
        counted.add(trial)
        for i in owners.pop(trial):
            waiting[i][trial] = outcome
            go_on(i)
        ledger.note_in_hand(executor.in_hand())
        watch(Progress(done(), max(done(), expected()), len(ledger), f"{trial.method} on {trial.task}"))


def _steps(contest: Contest) -> int:
    return contest.tuning_steps + sum(t.steps for runs in (contest.reported, contest.tenth) for t, _ in runs.values())
