"""Races: who gets another seed, that the order of the outcomes does not matter, and that a stopped race resumes."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from pydantic import ValidationError

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.design import lock_design, plan_of
from adapterlab.lab.run.estimate import trial_counts
from adapterlab.lab.run.progress import replay
from adapterlab.lab.run.racing import Contrast, is_open
from adapterlab.lab.run.study_play import StudyPlay, play_study
from adapterlab.lab.study.spec import Contestant, Reporting, Study
from adapterlab.lab.trial.spec import FROZEN, Finished
from tests.lab.in_process import ENVIRONMENT
from tests.lab.unplayed import SEARCH_TRIALS, START, TUNING, outcome_of, prepared_of, study_of

MOST = 8
NAMES = ("lora", "oft", "ia3")


def prepared(names=NAMES, tasks=("prose",), design="racing", **report):
    entries = tuple(Contestant(adapter=name, start=START) for name in names)
    report = Reporting(seeds=tuple(range(1, MOST + 1)), windows=16, curve_every=5, design=design, **report)
    return prepared_of(study_of(contestants=entries, tuning=TUNING, report=report, tasks=tasks))


def losses(means: dict[str, float], noise: float = 0.001):
    def loss(contest, trial) -> float:
        if contest.contestant == FROZEN:
            return 2.0
        if trial.seed > 100:  # the search: the best rate is the start
            return 1 + abs(math.log10(trial.lr / START))
        drawn = np.random.default_rng([trial.seed, NAMES.index(contest.contestant), len(trial.task)])
        return 1 - means[contest.contestant] + float(drawn.normal(0, noise))

    return loss


def seeds_of(contests) -> dict[str, int]:
    return {c.contestant: len(c.reported) for c in contests if c.contestant != FROZEN}


def played(study, loss):
    contests = play_study(study.contests(), lambda contest, trial: outcome_of(trial, loss(contest, trial)))
    assert all(contest.finished for contest in contests)
    return contests


def test_clear_differences_need_no_more_than_the_first_seeds():
    contests = played(prepared(), losses({"lora": 0.3, "oft": 0.2, "ia3": 0.1}))
    assert seeds_of(contests) == {"lora": 2, "oft": 2, "ia3": 2}
    assert seeds_of(played(prepared(fewest_seeds=3), losses({"lora": 0.3, "oft": 0.2, "ia3": 0.1})))["lora"] == 3


def test_only_the_contestants_of_an_open_comparison_go_on():
    contests = played(prepared(), losses({"lora": 0.3, "oft": 0.296, "ia3": 0.1}, noise=0.002))
    found = seeds_of(contests)
    assert found["ia3"] == 2
    assert found["lora"] == found["oft"] > 2


def test_a_contestant_runs_on_all_tasks_with_the_same_seeds():
    contests = played(
        prepared(tasks=("prose", "restyle")), losses({"lora": 0.3, "oft": 0.297, "ia3": 0.1}, noise=0.003)
    )
    for name in NAMES:
        counts = {len(c.reported) for c in contests if c.contestant == name}
        assert len(counts) == 1
    seeds = [list(c.reported) for c in contests if c.contestant != FROZEN]
    assert all(found == list(range(1, len(found) + 1)) for found in seeds)


def test_tenths_of_the_data_follow_the_seeds():
    contests = played(prepared(tenth_of_data=True), losses({"lora": 0.3, "oft": 0.2, "ia3": 0.1}))
    assert {tuple(c.tenth) for c in contests if c.contestant != FROZEN} == {(1, 2)}


def test_where_every_rate_diverged_the_others_do_not_wait():
    means = losses({"lora": 0.3, "oft": 0.297, "ia3": 0.1}, noise=0.002)
    contests = played(prepared(), lambda c, t: math.inf if c.contestant == "ia3" else means(c, t))
    assert seeds_of(contests)["ia3"] == 0
    assert seeds_of(contests)["oft"] > 2


@pytest.mark.parametrize("order", range(4))
def test_the_order_of_the_outcomes_changes_nothing(order):
    """Trials finish in random order, as on several workers."""
    loss = losses({"lora": 0.3, "oft": 0.296, "ia3": 0.29}, noise=0.003)
    expected = [list(c.reported) for c in played(prepared(), loss)]
    rng = random.Random(order)
    playing = StudyPlay(prepared().contests())
    waiting = {i: list(trials) for i, trials in playing.start()}
    while waiting:
        i = rng.choice(sorted(waiting))
        outcomes = {trial: outcome_of(trial, loss(playing.contests[i], trial)) for trial in waiting.pop(i)}
        waiting |= dict(playing.send(i, outcomes))
    assert [list(c.reported) for c in playing.contests] == expected
    assert all(c.finished for c in playing.contests)


def test_a_ledger_of_a_race_resumes_with_the_same_decisions(tmp_path):
    loss = losses({"lora": 0.3, "oft": 0.296, "ia3": 0.1}, noise=0.002)
    whole, ledger = played(prepared(), loss), Ledger(tmp_path / "ledger.sqlite")
    phases, rounds = set(), 0
    while True:
        states = replay(prepared().contests(), ledger)
        if all(state.contest.finished for state in states):
            break
        rounds += 1
        for state in states:
            phases.add(state.phase)
            for trial in state.missing[:1]:  # one trial of each contest, then everything is replayed
                ledger.record(Finished(trial, outcome_of(trial, loss(state.contest, trial)), ENVIRONMENT))
    assert [list(state.contest.reported) for state in states] == [list(c.reported) for c in whole]
    assert len(ledger) == sum(len(c.trials) for c in whole)
    assert {"report 1/8", "report 2/8"} <= phases
    assert rounds > 5
    assert max(seeds_of(whole).values()) > 2


def test_a_plan_knows_the_fewest_and_the_most_trials():
    contest = next(c for c in prepared().contests() if c.contestant == "lora")
    fixed = next(c for c in prepared(design="fixed").contests() if c.contestant == "lora")
    assert trial_counts(contest)[1] == SEARCH_TRIALS + 2
    assert trial_counts(fixed)[1] == SEARCH_TRIALS + MOST
    assert trial_counts(contest)[2] == trial_counts(fixed)[2]


def test_calling_off_a_race_is_named(tmp_path):
    lock_design(tmp_path, plan_of(prepared().resolved, None), 0)
    history = lock_design(tmp_path, plan_of(prepared(design="fixed").resolved, None), 30)
    assert "The race was called off on" in history.remarks[-1]
    assert "report.design" in history.remarks[0]


def test_a_race_needs_seeds_to_race_for():
    with pytest.raises(ValidationError, match="give more seeds, or the fixed design"):
        Study(
            name="mine",
            tasks=("prose",),
            contestants=(Contestant(adapter="lora"),),
            report=Reporting(seeds=(1, 2), design="racing"),
        )


def test_seeds_that_cannot_narrow_an_interval_enough_are_not_run():
    """The test rows are the larger part of the error, which no seed reduces."""
    rows = Contrast(0.004, noise=1e-6, rows=1.6e-5, df=20)
    assert not is_open(rows, 2, MOST, 5, 0.005)
    assert is_open(rows._replace(noise=1.6e-5, rows=1e-6, mean=0.008), 2, MOST, 5, 0.005)
    assert not is_open(rows._replace(noise=1.6e-5, rows=1e-6, mean=0.008), MOST, MOST, 5, 0.005)
