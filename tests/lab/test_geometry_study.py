"""A study that measures geometry, from its file to its ledger, its table of trials, and the verdict on a claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapterlab import argmap
from adapterlab.lab.analysis.geometry import changes_of
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.trial_table import GEOMETRY, read_csv, trial_table, write_table
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.estimate import estimate_study
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.progress import Cost, cost_key, known_geometry, replay, seconds_left
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.run.time_limit import LEAST_UNMEASURED, SLACK, TimeLimit
from adapterlab.lab.study.load import load_study
from adapterlab.verdict import analyse
from tests.lab.in_process import use
from tests.lab.tiny import save_study

TABLE = """
[geometry]
of = ["lora"]
hypotheses = ["low_rank", "svd_banded"]
measures = ["energy_in_top(0.1)", "stable_rank", "direction_against_magnitude"]
draws = 3
"""
TESTS = (
    "geometry_test: {geometry: stable_rank, of: lora, below: random, on: [prose]}",
    "geometry_test: {projects: lora, better_than: svft, of: lora, on: [prose]}",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The study, its contests and its ledger."""
    folder = tmp_path_factory.mktemp("study")
    study = load_study(save_study(folder, steps=2, more=TABLE))
    prepared, ledger = prepare(study), Ledger(folder / "out" / "ledger.sqlite")
    with pytest.MonkeyPatch.context() as patch:
        use(patch)
        return prepared, run_study(prepared, ledger), ledger


def test_only_the_reported_runs_of_the_contestant_have_a_geometry(finished):
    _, contests, ledger = finished
    lora = next(contest for contest in contests if contest.contestant == "lora")
    measured = {trial.id for trial, outcome, _ in ledger if outcome.geometry}
    assert measured == {trial.id for trial, _ in lora.reported.values()}
    assert len(measured) == 2


def test_a_replay_needs_no_further_trial(finished):
    prepared, _, ledger = finished
    states = replay(prepared.contests(), ledger)
    assert all(state.contest.finished for state in states)
    assert seconds_left(states, {}, {}, 1) == 0.0


def test_the_numbers_are_columns_of_the_table_of_trials(finished, tmp_path):
    prepared, _, ledger = finished
    frame = trial_table(prepared, ledger)
    columns = [name for name in frame if name.startswith(GEOMETRY)]
    assert f"{GEOMETRY}residual(low_rank)" in columns
    assert frame[f"{GEOMETRY}residual(low_rank)"].count() == 2
    write_table(frame, tmp_path / "trials.csv", "csv")
    again = read_csv(tmp_path / "trials.csv")
    assert again[columns].dtypes.astype(str).unique().tolist() == ["Float64"]


def test_lora_is_of_low_rank_and_the_claims_about_it_are_judged(finished):
    prepared, contests, ledger = finished
    claims = "\n".join(
        f"  + [C{i}]: c{i} {{predicted: [0.8, 0.3], credence: 0.5, {test}}}" for i, test in enumerate(TESTS)
    )
    analysis = analyse(prepared, contests, ledger, argmap.parse(f"[T]: t {{prior: 0.3}}\n{claims}"), weight=1.0)
    best = changes_of(Results.of(contests)).projected[0]
    assert best.hypothesis == "low_rank"
    assert best.expressed.value == pytest.approx(1.0, abs=1e-6)
    assert best.gain.value == pytest.approx(1.0, abs=0.01)
    verdicts = analysis.judgement.geometry
    assert [verdict.untested for verdict in verdicts] == ["", ""]
    assert all(verdict.after > 0.7 for verdict in verdicts)


def test_the_time_of_the_geometry_is_part_of_the_plan(finished):
    prepared, _, ledger = finished
    known = known_geometry(replay(prepared.contests(), ledger))
    assert list(known) == [(prepared.study.model, "lora", "prose")]
    states = replay(prepared.contests(), None)
    unknown = seconds_left(states, costs_of(states), {}, 1)
    # Two reported runs of the contestant are to go.
    assert seconds_left(states, costs_of(states), {}, 1, None, dict.fromkeys(known, 50.0)) == pytest.approx(
        unknown + 100.0
    )


def costs_of(states):
    return {cost_key(state.contest): Cost(0.1, 0.1) for state in states}


def test_the_geometry_of_one_run_is_timed_beforehand(finished):
    prepared, _, _ = finished
    watched = []
    found = estimate_study(prepared, None, watch=watched.append)
    assert watched.count("the geometry of lora") == 1
    assert found.seconds > 0


def test_a_trial_with_geometry_has_a_time_limit_of_its_own(finished):
    _, contests, _ = finished
    lora = next(contest for contest in contests if contest.contestant == "lora")
    (measured, _), limit = lora.reported[1], TimeLimit()
    plain = replace(measured, geometry="")
    limit.learn(plain, 1.0)
    assert limit.of(plain) < limit.of(measured) == LEAST_UNMEASURED
    limit.learn(measured, 300.0)
    assert limit.of(measured) == SLACK * 300.0
    assert limit.of(plain) < SLACK * 300.0
