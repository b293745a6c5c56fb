"""Estimates of a study: trial counts by brute force, steps and time by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest, play
from adapterlab.lab.run.estimate import PROBE_STEPS, PROBE_WINDOWS, estimate_study, trial_counts
from adapterlab.lab.run.progress import Cost, known_scoring, replay, seconds_left
from adapterlab.lab.study.spec import Contestant, Limits, Reporting, Tuning
from adapterlab.lab.study.sweep import Sweep
from adapterlab.lab.trial.spec import FROZEN, Finished, Outcome
from tests.lab.unplayed import SEARCH_TRIALS, WHOLE, outcome_of, prepared_of, record, study_of

TUNINGS = {
    "default, without growth": Tuning(growth=0),
    "no second rung": Tuning(growth=1, keep=1, extensions=1),
    "no extension": Tuning(growth=2, extensions=0),
    "no regret": Tuning(growth=1, regret_sample=0),
    "three seeds for the regret": Tuning(growth=1, extensions=1, regret_seeds=(7, 8, 9)),
    "wide": Tuning(bracket=5, growth=0, keep=2, extensions=1),
}


@pytest.fixture
def trusted(monkeypatch):
    monkeypatch.setattr(Contest, "trusted", True)


@pytest.mark.parametrize("name", ["default, without growth", "no regret", "no extension"])
def test_the_counts_are_those_of_contests_that_start_at_a_trusted_prediction(name, trusted):
    test_the_counts_are_those_of_contests_at_random(name, False, True)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("tenth", [False, True])
@pytest.mark.parametrize("name", TUNINGS)
def test_the_counts_are_those_of_contests_at_random(name, tenth, sampled):
    """Losses are drawn at random, and diverge with some chance; the counts of 600 such contests reach both ends."""
    report = Reporting(seeds=(1, 2), windows=16, curve_every=5, tenth_of_data=tenth)
    tuning = TUNINGS[name].model_copy(update={"regret_sample": min(1, TUNINGS[name].regret_sample)})
    prepared = prepared_of(
        study_of("ia3", "lora", reference="lora" if sampled else "ia3", tuning=tuning, report=report)
    )
    counts, rng = [], np.random.default_rng(0)
    for i in range(600):
        contest = prepared.contests()[2]
        playing = play(contest, lambda extensions, i=i: i > 0 and bool(rng.random() < 0.8))
        asked, drawn, outcomes = [], {}, None
        while True:
            try:
                trials = playing.send(outcomes)
            except StopIteration:
                break
            asked += trials
            for trial in trials:
                # Rates that are tried later tend to be better, so that searches grow and rates move.
                loss = math.inf if rng.random() < i / 600 - 0.3 else rng.random() * 0.8 ** len(drawn)
                drawn.setdefault((trial.lr, trial.steps), loss if i > 0 else 1.0)
            outcomes = {trial: outcome_of(trial, drawn[trial.lr, trial.steps]) for trial in trials}
        assert len(set(asked)) == len(asked)
        counts.append(len(asked))
    least, likely, most = trial_counts(prepared.contests()[2])
    narrow = prepared.contests()[2].narrow
    second = tuning.keep if tuning.keep > 1 and not narrow else 0
    regret = 3 * len(tuning.regret_seeds) if sampled and tuning.regret_sample else 0
    assert likely == counts[0] == tuning.bracket + (0 if narrow else 2) + second + regret + report.runs
    assert (least, most) == (min(counts), max(counts))


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_a_study_that_has_not_begun(ledger):
    study = study_of(
        sweep=Sweep(budgets=(800, 2000)), tasks=("prose", "restyle"), limits=Limits(device="cpu", workers=3)
    )
    found = estimate_study(prepared_of(study, parameters=123), ledger, measure=False)
    # On two tasks LoRA has two sizes and IA3 one.
    assert found.likely == 2 * 3 * (SEARCH_TRIALS + 2) + 2
    counts = trial_counts(prepared_of(study).contests()[-1])
    assert (found.least, found.most) == tuple(2 * 3 * count + 2 for count in counts[::2])
    assert found.steps == 2 * 3 * WHOLE
    assert (found.trials_done, found.steps_done, found.seconds) == (0, 0, None)
    assert (found.workers, found.device, found.model_parameters) == (3, "cpu", 123)
    assert [entry.cell.by_factor["budget"] for entry in found.entries] == [800, 800, 2000, 2000]
    assert [(e.contestant, e.settings, e.parameters, e.flag, e.ranked) for e in found.entries] == [
        ("lora", "rank = 4", 700, "", True),
        ("ia3", "", 900, "above", True),
        ("lora", "rank = 8", 900, "below", True),
        ("ia3", "", 900, "below", True),
    ]
    assert {entry.cost for entry in found.entries} == {None}


def test_full_fine_tuning_is_not_ranked():
    found = estimate_study(prepared_of(study_of("lora", full_ft=True)), None, measure=False)
    assert [(entry.contestant, entry.ranked) for entry in found.entries] == [("lora", True), ("full_ft", False)]


def test_trials_of_the_ledger_are_done_and_give_the_times(ledger):
    prepared = prepared_of(study_of(limits=Limits(device="cpu", workers=2)))
    done = record(ledger, prepared, until=lambda contest, trial: contest.contestant != "ia3" or trial.seed == 101)
    found = estimate_study(prepared, ledger, measure=False)
    assert found.trials_done == len(done)
    assert found.steps_done == sum(trial.steps for trial in done) == WHOLE + 50
    assert found.steps == 2 * WHOLE
    cost = Cost(pytest.approx(0.1), 0.5)
    assert {entry.contestant: entry.cost for entry in found.entries} == {"lora": cost, "ia3": cost}
    # Of IA3 there are left two runs of the search and two reported ones, of twenty steps each.
    assert found.seconds == pytest.approx((80 * 0.1 + 4 * 0.5) / 2)


@pytest.fixture
def timed(monkeypatch):
    """Replace the runner: a step takes half a second, and scoring takes a time that depends on the task."""
    ran = []
    scoring = {"prose": 0.02, "restyle": 0.06}

    class Timed:
        def __init__(self, config) -> None:
            ran.append(config)

        def run(self, trial) -> Outcome:
            ran.append(trial)
            seconds = scoring[trial.task] * trial.windows
            return replace(outcome_of(trial), seconds=0.5 * trial.steps, attach_seconds=0.75, scoring_seconds=seconds)

    monkeypatch.setattr("adapterlab.lab.run.estimate.Runner", Timed)
    return ran


def test_contestants_without_a_known_time_are_timed_on_one_task(timed, ledger):
    prepared, watched = prepared_of(study_of(tasks=("prose", "restyle"), limits=Limits(device="cpu", workers=2))), []
    record(ledger, prepared, until=lambda c, t: (c.contestant, c.task) == ("lora", "prose") and t.seed == 101)
    found = estimate_study(prepared, ledger, watch=watched.append)
    assert watched == [FROZEN, FROZEN, "lora", "ia3"]
    config, *probes = timed
    assert config.device == "cpu"
    assert [t.windows for t in probes if t.method == FROZEN] == [2, PROBE_WINDOWS] * 2
    assert {t.parts for t in probes} == {("validation",)}
    trained = [t for t in probes if t.method != FROZEN]
    starts = {contest.contestant: contest.start for contest in prepared.contests()}
    assert [(t.method, t.task, t.lr, t.seed) for t in trained] == [
        ("lora", "restyle", starts["lora"], 101),
        ("ia3", "prose", starts["ia3"], 101),
    ]
    assert {(t.steps, t.windows, t.curve_every) for t in trained} == {(PROBE_STEPS, PROBE_WINDOWS, 0)}
    assert [(entry.contestant, entry.cost) for entry in found.entries] == [
        ("lora", Cost(pytest.approx(0.1), 0.5)),
        ("ia3", Cost(0.5, 0.75)),
    ]
    costs = {
        ("embedded", "lora", "prose"): Cost(0.1, 0.5),
        ("embedded", "lora", "restyle"): Cost(0.5, 0.75),
        ("embedded", "ia3", "prose"): Cost(0.5, 0.75),
        ("embedded", "ia3", "restyle"): Cost(1.5, 0.75),  # scoring there takes three times as long
    }
    states = replay(prepared.contests(), ledger)
    scoring = {("embedded", "prose"): 0.02 * 16, ("embedded", "restyle"): 0.06 * 16}
    assert found.seconds == pytest.approx(seconds_left(states, costs, scoring, 2))


def test_scoring_is_not_timed_again_where_the_frozen_model_was_scored(timed, ledger):
    prepared, watched = prepared_of(study_of(tasks=("prose", "restyle"))), []
    (trial,) = [c.frozen_trial() for c in prepared.contests() if (c.contestant, c.task) == (FROZEN, "prose")]
    outcome = replace(outcome_of(trial), scoring_seconds=4 * 0.02 * trial.windows)
    ledger.record(Finished(trial, outcome, {}))
    found = estimate_study(prepared, ledger, watch=watched.append)
    assert [t.task for t in timed[1:] if t.method == FROZEN] == ["restyle"] * 2
    states = replay(prepared.contests(), ledger)
    assert known_scoring(states) == {("embedded", "prose"): pytest.approx(0.02 * trial.windows)}
    assert found.seconds > 0


def test_contestants_are_timed_at_the_largest_budget(timed):
    prepared = prepared_of(study_of("lora", sweep=Sweep(budgets=(800, 2000))))
    estimate_study(prepared, None)
    (probe,) = [t for t in timed[1:] if t.method == "lora"]
    assert probe.build().rank == 8


def test_a_finished_study_is_not_timed(timed, ledger):
    prepared = prepared_of(study_of())
    record(ledger, prepared)
    assert estimate_study(prepared, ledger).seconds == 0
    assert timed == []


def test_a_cluster_is_named(monkeypatch):
    study = study_of(limits=Limits(cluster="auto", device="cpu"))
    assert estimate_study(prepared_of(study), None, measure=False).device == "a Ray cluster"


def test_a_setting_that_differs_from_the_default_is_shown():
    study = study_of(contestants=(Contestant(adapter="lora"), Contestant(adapter="oft")))
    entries = estimate_study(prepared_of(study), None, measure=False).entries
    assert entries[0].settings == "rank = 8"
