"""The status of a study, field by field, over a ledger that the test fills."""

from __future__ import annotations

import math

import pytest

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.status import TrialLabel, study_status
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.study.sweep import Cell, Sweep
from adapterlab.lab.trial.spec import FROZEN, Finished, Outcome
from tests.lab.in_process import ENVIRONMENT
from tests.lab.unplayed import FIRST, SEARCH_STEPS, START, WHOLE, prepared_of, record, study_of


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def status(prepared, ledger, workers: int | None = None):
    return study_status(prepared, ledger, "adapterlab run mine", workers)


def test_a_study_in_the_middle(ledger):
    prepared = prepared_of(study_of(limits=Limits(device="cpu", workers=2)))
    done = record(ledger, prepared, until=lambda contest, trial: contest.contestant != "ia3" and trial.seed != 2)
    found = status(prepared, ledger)
    assert found.phases == {
        Cell(): {FROZEN: {"prose": "done"}, "lora": {"prose": "report 1/2"}, "ia3": {"prose": "waiting"}}
    }
    assert (found.trials, found.finished, found.command) == (len(done), False, "adapterlab run mine")
    assert (found.steps_done, found.steps_left) == (WHOLE - 20, 20 + WHOLE)
    assert found.share == pytest.approx((WHOLE - 20) / (2 * WHOLE))
    assert [(t.contestant, t.lr, t.seed, t.steps, t.seconds) for t in found.next] == [
        ("lora", START, 2, 20, None),  # of equal rates the one that the search started at
        *(("ia3", lr, 101, 10, None) for lr in FIRST),
    ]
    assert (found.running, found.diverged, found.failed) == ((), (), ())
    assert not found.being_written
    assert not found.knows_running
    # IA3 is given LoRA's cost: 0.1 seconds a step, and half a second to attach each of nine and one trials.
    assert found.seconds_left == pytest.approx((0.1 * (20 + WHOLE) + 0.5 * 10) / 2)
    assert found.workers == 2
    assert found.remarks == ()
    assert status(prepared, ledger, workers=1).seconds_left == pytest.approx(2 * found.seconds_left)
    assert status(prepared, ledger, workers=1).workers == 1


def test_running_trials_are_not_listed_as_next(ledger):
    prepared = prepared_of(study_of())
    record(ledger, prepared, until=lambda contest, trial: contest.adapter is None)
    first, second = (c.trial(FIRST[0], 101, 10, reported=False) for c in prepared.contests()[1:])
    with ledger.sole_writer():
        ledger.note_running([first])
        found = status(prepared, ledger)
        assert found.being_written
        assert found.knows_running
        assert [(t.contestant, t.lr) for t in found.running] == [("lora", FIRST[0])]
        assert 0 <= found.running[0].seconds < 60
        assert [(t.contestant, t.lr) for t in found.next] == [
            *(("lora", lr) for lr in FIRST[1:]),
            *(("ia3", lr) for lr in FIRST),
        ]
    assert second not in found.running


def test_trials_that_diverged_are_listed_with_the_reason(ledger):
    prepared = prepared_of(study_of())
    record(ledger, prepared, lambda c, t: math.inf if (c.contestant, t.lr) == ("ia3", 1e-2) else 1.0)
    found = status(prepared, ledger)
    assert found.finished
    assert (found.share, found.steps_left) == (1.0, 0)
    assert found.diverged == (TrialLabel("ia3", "prose", 1e-2, 101, 10, None, "the loss was nan at step 1"),)
    assert found.failed == ()


def test_a_failure_is_not_a_divergence(ledger):
    prepared = prepared_of(study_of("lora"))
    trial = prepared.contests()[1].trial(FIRST[0], 101, 10, reported=False)
    ledger.record(Finished(trial, Outcome("failed", {}, (), 0, 0.0, 0.0, "3 times it was killed"), ENVIRONMENT))
    found = status(prepared, ledger)
    assert [(t.lr, t.note) for t in found.failed] == [(FIRST[0], "3 times it was killed")]
    assert found.diverged == ()


def test_an_unfinished_study_is_never_at_100_percent(ledger):
    prepared = prepared_of(study_of("lora"))
    record(ledger, prepared, until=lambda contest, trial: contest.adapter is not None)
    found = status(prepared, ledger)
    assert (found.finished, found.steps_left, found.share) == (False, 0, 0.99)


def test_budgets_are_told_apart_and_shared_trials_counted_once(ledger):
    prepared = prepared_of(study_of(sweep=Sweep(budgets=(800, 2000))))
    record(ledger, prepared, until=lambda contest, trial: trial.seed not in (1, 2))
    found = status(prepared, ledger)
    small, large = found.phases
    assert [small.words, large.words] == ["800 trained parameters", "2,000 trained parameters"]
    assert found.phases[small]["ia3"] == found.phases[large]["ia3"] == {"prose": "report 0/2"}
    assert (found.steps_done, found.steps_left) == (3 * SEARCH_STEPS, 3 * (WHOLE - SEARCH_STEPS))
    assert found.trials == len(ledger)
