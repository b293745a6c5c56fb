"""Trials that the scheduler submits, records and reports, with an executor that makes up their outcomes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.run.time_limit import SLACK
from adapterlab.lab.study.spec import Contestant, Limits, Reporting
from adapterlab.lab.study.sweep import Sweep
from adapterlab.lab.trial.spec import FROZEN
from tests.lab.in_process import InProcess, use
from tests.lab.tiny import what_counts
from tests.lab.unplayed import (
    RUN_STEPS,
    SEARCH_STEPS,
    SEARCH_TRIALS,
    START,
    TUNING,
    WHOLE,
    outcome_of,
    prepared_of,
    record,
    study_of,
)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_every_trial_is_submitted_recorded_and_reported_once(ledger, monkeypatch):
    executor, seen = InProcess(outcome_of), []
    use(monkeypatch, executor)
    contests = run_study(prepared_of(study_of()), ledger, watch=seen.append)
    assert all(contest.finished for contest in contests)
    assert len(executor.submitted) == len(set(executor.submitted)) == len(ledger) == 1 + 2 * (SEARCH_TRIALS + 2)
    assert set(executor.submitted) == {trial for trial, _, _ in ledger}
    assert executor.closed
    assert [progress.trials for progress in seen] == list(range(len(ledger) + 1))
    assert {progress.expected for progress in seen} == {2 * WHOLE}
    assert seen[0].done == 0
    assert seen[-1].done == 2 * WHOLE
    steps = {trial.id: trial.steps for trial in executor.submitted}
    assert [b.done - a.done for a, b in pairwise(seen)] == list(steps.values())
    assert [progress.last for progress in seen] == [
        "",
        *(f"{trial.method} on prose" for trial in executor.submitted),
    ]
    assert seen[1].last == f"{FROZEN} on prose"


def test_the_ledger_lists_the_running_trials(ledger, monkeypatch):
    executor, running = InProcess(outcome_of), []
    use(monkeypatch, executor)

    def watch(_) -> None:
        running.append((set(ledger.running()), {trial.id for trial in executor.running()}, ledger.is_locked()))

    run_study(prepared_of(study_of()), ledger, watch=watch)
    assert all(noted == truly and locked for noted, truly, locked in running)
    assert running[0][0]
    assert ledger.running() == {}
    assert not ledger.is_locked()


def test_trials_in_the_ledger_are_not_submitted(ledger, monkeypatch):
    prepared = prepared_of(study_of())
    known = record(ledger, prepared, until=lambda contest, trial: contest.contestant != "ia3" or trial.seed == 101)
    executor, seen = InProcess(outcome_of), []
    use(monkeypatch, executor)
    run_study(prepared, ledger, watch=seen.append)
    assert not set(executor.submitted) & set(known)
    assert len(executor.submitted) == 2 + 2
    assert seen[0].done == sum(trial.steps for trial in known)
    assert (seen[-1].done, seen[-1].expected) == (2 * WHOLE, 2 * WHOLE)


def test_a_finished_study_starts_no_executor(ledger, monkeypatch):
    prepared = prepared_of(study_of())
    record(ledger, prepared)
    started, seen = use(monkeypatch), []
    contests = run_study(prepared, ledger, watch=seen.append)
    assert all(contest.finished and contest.reported for contest in contests)
    assert (started, seen) == ([], [])


@pytest.mark.parametrize("after", [0, 1, 4, 9])
def test_an_interrupted_study_goes_on_from_there(after, ledger, monkeypatch, tmp_path):
    prepared = prepared_of(study_of())

    def interrupted(trial):
        if len(ledger) == after:
            raise KeyboardInterrupt
        return outcome_of(trial)

    first = InProcess(interrupted)
    use(monkeypatch, first)
    with pytest.raises(KeyboardInterrupt):
        run_study(prepared, ledger)
    assert first.closed
    assert len(ledger) == after
    assert not ledger.is_locked()
    second = InProcess(outcome_of)
    use(monkeypatch, second)
    run_study(prepared, ledger)
    undisturbed = Ledger(tmp_path / "other.sqlite")
    record(undisturbed, prepared)
    assert what_counts(ledger) == what_counts(undisturbed)
    assert len(second.submitted) == len(undisturbed) - after


def test_contests_that_share_trials_wait_for_the_same_ones(ledger, monkeypatch):
    twins = tuple(Contestant(adapter="lora", label=label, start=START) for label in ("lora", "twin"))
    prepared = prepared_of(study_of(contestants=twins, sweep=Sweep(budgets=(800, 2000)), tasks=("prose", "restyle")))
    executor, seen = InProcess(outcome_of), []
    use(monkeypatch, executor)
    contests = run_study(prepared, ledger, watch=seen.append)
    assert len(contests) == 2 * (2 + 2 * 2)
    assert all(contest.finished and contest.reported for contest in contests)
    # Sized to 800 it is another adapter than at 2000, on each of two tasks; the frozen model is the same.
    assert len(executor.submitted) == len(set(executor.submitted)) == 2 + 2 * 2 * (SEARCH_TRIALS + 2)
    assert {progress.expected for progress in seen} == {2 * 2 * WHOLE}
    assert seen[-1].done == 2 * 2 * WHOLE


def test_expected_steps_fall_if_every_rate_of_a_contest_diverges(ledger, monkeypatch):
    def run(trial):
        return outcome_of(trial, math.inf if trial.method == "ia3" else 1.0)

    seen = []
    use(monkeypatch, InProcess(run))
    contests = run_study(prepared_of(study_of()), ledger, watch=seen.append)
    ended = next(contest for contest in contests if contest.contestant == "ia3")
    assert ended.finished
    assert (ended.rate, ended.reported) == (None, {})
    assert seen[0].expected == 2 * WHOLE
    assert seen[-1].done == seen[-1].expected == WHOLE + (3 + TUNING.growth) * RUN_STEPS // 2


def test_runs_on_a_tenth_of_the_data_are_counted(ledger, monkeypatch):
    seen = []
    use(monkeypatch, InProcess(outcome_of))
    report = Reporting(seeds=(1, 2), windows=16, curve_every=5, tenth_of_data=True)
    run_study(prepared_of(study_of("lora", report=report)), ledger, watch=seen.append)
    assert {progress.expected for progress in seen} == {SEARCH_STEPS + 4 * RUN_STEPS}
    assert seen[-1].done == SEARCH_STEPS + 4 * RUN_STEPS


def test_time_limits_follow_from_what_ran_and_from_the_ledger(ledger, monkeypatch):
    prepared = prepared_of(study_of())
    executor = InProcess(outcome_of, wall_seconds=40.0)
    use(monkeypatch, executor)
    run_study(prepared, ledger)
    trial = next(trial for trial in executor.submitted if trial.steps == RUN_STEPS)
    assert executor.limit.of(trial) == SLACK * 40 / 10 * RUN_STEPS  # trials of ten steps were the slowest
    unknown = InProcess(outcome_of, wall_seconds=None)
    use(monkeypatch, unknown)
    run_study(prepared_of(study_of("lora", "oft")), ledger)
    assert {t.method for t in unknown.submitted} == {"oft"}
    assert unknown.limit.of(trial) == SLACK * 40 / 10 * RUN_STEPS


def test_a_fixed_time_limit_is_the_studys(ledger, monkeypatch):
    executor = InProcess(outcome_of)
    use(monkeypatch, executor)
    run_study(prepared_of(study_of(limits=Limits(trial_seconds=7.0))), ledger)
    assert executor.limit.of(executor.submitted[1]) == 7.0


def test_a_ledger_that_another_run_writes_is_left_alone(ledger, monkeypatch):
    started = use(monkeypatch, InProcess(outcome_of))
    with ledger.sole_writer(), pytest.raises(AdapterlabError, match="another run is writing"):
        run_study(prepared_of(study_of()), Ledger(ledger.path))
    assert started == []
