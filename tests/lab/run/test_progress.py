"""Progress of contests, and the remaining time computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.progress import Cost, distinct_states, known_costs, known_generating, replay, seconds_left
from adapterlab.lab.study.spec import Contestant, Reporting, Tuning
from adapterlab.lab.trial.spec import FROZEN, Finished
from adapterlab.tasks.prose import Prose
from tests.lab.in_process import ENVIRONMENT
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

COST = Cost(step=2.0, attach=10.0)
COSTS = {(name, "prose"): COST for name in ("lora", "ia3")}
SCORE = 0.25
SEARCH_SCORINGS = SEARCH_TRIALS + 2 * 3
"""Of a search: the two runs of its second rung are scored on four parts, the others on one."""
SCORINGS = 3 + 4
"""Of a reported run: after 5, 10 and 15 of its 20 steps on one part, and four parts at its end."""


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def states_of(prepared, ledger: Ledger | None):
    return {s.contest.contestant: s for s in replay(prepared.contests(), ledger)}


def seconds(states, workers: int = 1, costs=COSTS, score: float = SCORE) -> float | None:
    return seconds_left(states.values(), costs, {("embedded", "prose"): score}, workers)


def test_a_study_without_trials_needs_all_of_its_time(ledger):
    prepared = prepared_of(study_of())
    for states in (states_of(prepared, None), states_of(prepared, ledger)):
        assert {state.phase for state in states.values()} == {"waiting"}
        assert [len(states[name].missing) for name in (FROZEN, "lora", "ia3")] == [1, 3, 3]
        assert [states[name].steps_left for name in (FROZEN, "lora", "ia3")] == [0, WHOLE, WHOLE]
        # Each trial is attached once; the two reported ones are scored as often as their curve asks.
        each = 2 * WHOLE + 10 * (SEARCH_TRIALS + 2) + SCORE * (SEARCH_SCORINGS + 2 * SCORINGS)
        assert seconds(states) == pytest.approx(2 * each + 4 * SCORE)
        assert seconds(states, workers=4) == pytest.approx((2 * each + 4 * SCORE) / 4)


def test_in_the_middle_of_the_search(ledger):
    prepared = prepared_of(study_of("lora"))
    first = {trial.lr for trial in states_of(prepared, None)["lora"].missing}
    done = record(ledger, prepared, until=lambda contest, trial: contest.adapter is None or trial.lr in first)
    state = states_of(prepared, ledger)["lora"]
    assert len(done) == 1 + 3
    assert (state.steps, state.steps_left, len(state.missing)) == (30, WHOLE - 30, 2)
    assert state.phase == f"tuning {30 / SEARCH_STEPS:.0%}" == "tuning 33%"
    left = 2 * (WHOLE - 30) + 10 * (4 + 2) + SCORE * (SEARCH_SCORINGS - 3 + 2 * SCORINGS)
    assert seconds({"lora": state}) == pytest.approx(left)


def test_in_the_middle_of_the_reported_runs(ledger):
    prepared = prepared_of(study_of("lora"))
    record(ledger, prepared, until=lambda contest, trial: trial.seed != 2)
    state = states_of(prepared, ledger)["lora"]
    assert (state.steps, state.steps_left, state.phase) == (SEARCH_STEPS + RUN_STEPS, RUN_STEPS, "report 1/2")
    assert seconds({"lora": state}) == pytest.approx(2 * RUN_STEPS + 10 + SCORE * SCORINGS)


def test_a_finished_contest_takes_no_more_time(ledger):
    prepared = prepared_of(study_of())
    record(ledger, prepared)
    states = states_of(prepared, ledger)
    assert {state.phase for state in states.values()} == {"done"}
    assert [state.steps_left for state in states.values()] == [0, 0, 0]
    assert seconds(states) == 0
    assert seconds(states, costs={}) == 0
    assert sum(len(state.done) for state in states.values()) == len(ledger)


def test_a_contest_whose_rates_all_diverged_is_over(ledger):
    prepared = prepared_of(study_of("lora"))
    record(ledger, prepared, lambda contest, trial: 1.0 if contest.adapter is None else math.inf)
    state = states_of(prepared, ledger)["lora"]
    assert (state.phase, state.steps, state.steps_left) == ("all diverged", (3 + TUNING.growth) * 10, 0)


def test_a_search_that_grows_needs_more_than_was_expected(ledger):
    """With every rate of the bracket lost, lower ones are tried; the refinement is still to come."""
    prepared = prepared_of(study_of("lora"))
    lost = lambda contest, trial: math.inf if trial.lr > 1e-4 else 1.0  # noqa: E731
    lowest = min(trial.lr for trial in states_of(prepared, None)["lora"].missing)
    record(ledger, prepared, lost, until=lambda contest, trial: trial.lr >= lowest)
    state = states_of(prepared, ledger)["lora"]
    assert [trial.lr for trial in state.missing] == [pytest.approx(lowest / 10, rel=0.1)]
    assert state.steps_left == WHOLE - 3 * 10 + 10


def test_a_contest_that_measures_its_regret_or_waits_for_others_says_so(ledger):
    """LoRA is the reference, whose regret is measured; IA3 has nothing to run until that is known."""
    prepared = prepared_of(study_of(tuning=Tuning(regret_sample=1)))
    measuring = 6 * RUN_STEPS
    states = states_of(prepared, None)
    assert [states[name].steps_left for name in ("lora", "ia3")] == [WHOLE + measuring, WHOLE]
    record(ledger, prepared, until=lambda contest, trial: trial.seed < 200)
    states = states_of(prepared, ledger)
    assert [states[name].phase for name in ("lora", "ia3")] == ["measuring regret", "waiting for regret"]
    assert [len(states[name].missing) for name in ("lora", "ia3")] == [6, 0]
    assert [states[name].steps_left for name in ("lora", "ia3")] == [measuring + 2 * RUN_STEPS, 2 * RUN_STEPS]
    left = 2 * (measuring + 4 * RUN_STEPS) + 10 * (6 + 4) + SCORE * (6 * 4 + 4 * SCORINGS)
    assert seconds(states) == pytest.approx(left)


def test_runs_on_a_tenth_of_the_data_and_paths_take_time_too(ledger):
    report = Reporting(seeds=(1, 2), windows=16, curve_every=5, tenth_of_data=True, path=(0.5, 1.5))
    prepared = prepared_of(study_of("lora", report=report))
    # Three looks at the curve, at one part with all windows and the others with half; each part once with all windows,
    # and with half of them at the three strengths of the path.
    whole, scorings = SEARCH_STEPS + 4 * RUN_STEPS, 3 * (1 + 3 / 2) + 4 * (1 + 3 / 2)
    state = states_of(prepared, ledger)["lora"]
    assert state.steps_left == whole
    trials = SEARCH_TRIALS + 4
    assert seconds({"lora": state}) == pytest.approx(2 * whole + 10 * trials + SCORE * (SEARCH_SCORINGS + 4 * scorings))
    record(ledger, prepared, until=lambda contest, trial: trial.seed != 2 or trial.share == 1)
    assert states_of(prepared, ledger)["lora"].phase == "report 3/4"


@pytest.mark.parametrize(("curve_every", "looks"), [(1, 19), (5, 3), (6, 3), (7, 2), (19, 1), (20, 0), (21, 0)])
def test_the_time_counts_the_measurements_of_the_curve_before_the_last_step(curve_every, looks):
    report = Reporting(seeds=(1,), windows=16, curve_every=curve_every)
    prepared = prepared_of(study_of("lora", report=report))
    left = seconds({"lora": states_of(prepared, None)["lora"]}, costs={("embedded", "lora", "prose"): Cost(0, 0)})
    assert left == pytest.approx(SCORE * (SEARCH_SCORINGS + looks + 4))


def test_costs_are_the_means_of_what_ran(ledger):
    prepared = prepared_of(study_of())
    long, short, *_ = replay(prepared.contests(), None)[1].missing
    for trial, spent, attach in ((short, 2.0, 1.0), (long, 10.0, 3.0)):
        outcome = outcome_of(trial)
        ledger.record(
            Finished(trial, type(outcome)(**{**vars(outcome), "seconds": spent, "attach_seconds": attach}), ENVIRONMENT)
        )
    states = states_of(prepared, ledger)
    assert known_costs(states.values()) == {("embedded", "lora", "prose"): Cost(12 / 20, 2.0)}
    diverged = states["lora"].missing[0]
    ledger.record(Finished(diverged, outcome_of(diverged, math.inf), ENVIRONMENT))
    assert known_costs(states_of(prepared, ledger).values()) == {("embedded", "lora", "prose"): Cost(12 / 20, 2.0)}


def test_contestants_without_a_known_cost_get_the_mean_cost():
    prepared = prepared_of(study_of("lora", "ia3", "oft"))
    costs = {("embedded", "lora", "prose"): Cost(1.0, 2.0), ("embedded", "ia3", "prose"): Cost(3.0, 6.0)}
    left = seconds(states_of(prepared, None), costs=costs, score=0.0)
    assert left == pytest.approx((1 + 3 + 2) * WHOLE + (2 + 6 + 4) * (SEARCH_TRIALS + 2))
    assert seconds(states_of(prepared, None), costs={}) is None


def test_contests_that_run_the_same_trials_count_once():
    twins = tuple(Contestant(adapter="lora", label=label, start=START) for label in ("lora", "twin"))
    states = states_of(prepared_of(study_of(contestants=twins)), None)
    once = distinct_states(states.values())
    assert len(once) == 2
    alone = states_of(prepared_of(study_of("lora")), None)
    costs = {("embedded", "lora", "prose"): COST, ("embedded", "twin", "prose"): COST}
    assert seconds(states, costs=costs) == pytest.approx(seconds(alone, costs=costs))


def test_the_reported_trials_and_the_frozen_model_take_the_time_of_their_answers_too(ledger, monkeypatch):
    monkeypatch.setattr(Prose, "metric", "exact_match")
    prepared, answering = prepared_of(study_of("lora")), {("embedded", "prose"): 7.0}

    def more(states) -> float:
        scoring = {("embedded", "prose"): SCORE}
        return seconds_left(states.values(), COSTS, scoring, 1, answering) - seconds(states)

    assert more(states_of(prepared, None)) == pytest.approx(7 * (1 + 2))
    (frozen,) = [c.frozen_trial() for c in prepared.contests() if c.contestant == FROZEN]
    ledger.record(Finished(frozen, replace(outcome_of(frozen), generating_seconds=7.0), ENVIRONMENT, 9.0))
    states = states_of(prepared, ledger)
    assert known_generating(states.values()) == answering
    assert more(states) == pytest.approx(7 * 2)
    record(ledger, prepared, until=lambda contest, trial: trial.seed != 2)
    assert more(states_of(prepared, ledger)) == pytest.approx(7)
