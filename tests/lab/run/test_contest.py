"""How a learning rate is found: played with outcomes that the test makes up."""

from __future__ import annotations

import dataclasses
import math

import pytest

from adapterlab.lab.run.contest import Contest, make_contests, play
from adapterlab.lab.run.lr_search import Flag, position_of, rate_at
from adapterlab.lab.run.rate_priors import rate_priors
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training, Tuning
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.lab.trial.train import batches
from adapterlab.tasks.base import Examples

STUDY = Study(
    name="made-up",
    tasks=("prose",),
    contestants=(Contestant(adapter="lora", start=1e-2),),
    training=Training(steps=60),
    tuning=Tuning(seeds=(101, 102), regret_sample=0),
    report=Reporting(seeds=(1, 2, 3)),
)


def outcome(loss: float) -> Outcome:
    if not math.isfinite(loss):
        return Outcome("diverged", {}, (), 1, 1.0, 0.0)
    return Outcome("ok", dict.fromkeys(("validation", "test", "ood", "base"), (loss, 0.5)), (), 1, 1.0, 0.0)


def run(loss_of, study: Study = STUDY) -> tuple[Contest, list[list[Trial]]]:
    """Play the contest of the study's one contestant where a trial's loss is `loss_of(trial)`."""
    contest = make_contests(resolve(study), {entry.name: entry.build() for entry in study.entrants})[1]
    playing, asked, outcomes = play(contest), [], None
    while True:
        try:
            trials = playing.send(outcomes)
        except StopIteration:
            return contest, asked
        asked.append(trials)
        outcomes = {trial: outcome(loss_of(trial)) for trial in trials}


def bowl(best: float):
    return lambda trial: 1 + abs(math.log10(trial.lr / best)) + 1e-3 / trial.steps


def test_a_best_rate_near_the_start_is_looked_at_more_closely():
    contest, asked = run(bowl(1.7e-2))
    assert sorted(contest.first) == [3.2e-3, 5.6e-3, 1e-2, 1.8e-2, 3.2e-2]
    assert contest.rate == 1.8e-2
    assert contest.search_flag == Flag.NONE
    assert [len(trials) for trials in asked] == [3, 2, 2, 3]


@pytest.mark.parametrize("best", [1e-5, 1e-4, 1.0, 10.0])
def test_the_grid_grows_until_the_best_is_inside(best):
    contest, _ = run(bowl(best))
    assert contest.rate == pytest.approx(best)
    assert min(contest.first) < contest.rate < max(contest.first)


def test_growth_is_limited_and_is_counted_among_the_tuning_steps():
    near, _ = run(bowl(1e-2))
    contest, asked = run(bowl(1e9))
    assert contest.rate == max(contest.first) > 1e2
    assert contest.search_flag == Flag.EDGE
    assert near.tuning_steps == 5 * 30 + 2 * 60
    assert contest.tuning_steps == near.tuning_steps + STUDY.tuning.growth * 30
    assert [len(trials) for trials in asked] == [3, *[1] * STUDY.tuning.growth, 2, 2, 3]


def test_the_search_starts_at_the_contestants_rate_or_the_methods_prior_or_the_studys():
    def first(**entry) -> list[float]:
        study = STUDY.model_copy(update={"contestants": (Contestant(**entry),)})
        return [trial.lr for trial in run(bowl(1e-2), study)[1][0]]

    assert first(adapter="lora", start=0.4) == [0.1, 0.32, 1.0], "the nearest rates of the lattice"
    assert first(adapter="vera")[1] == rate_at(position_of(rate_priors()["vera"].rate))
    assert first(adapter="lora", settings={"alpha": 1.6})[1] == pytest.approx(10 * first(adapter="lora")[1])
    assert "bitfit" not in rate_priors()
    assert first(adapter="bitfit")[1] == STUDY.tuning.start


def test_a_rate_that_diverges_is_recorded_and_not_chosen():
    contest, _ = run(lambda trial: math.inf if trial.lr > 5e-3 else 1.0)
    assert contest.first[1e-2][1].status == "diverged"
    assert contest.rate is not None
    assert contest.rate < 5e-3


def test_where_everything_diverges_nothing_is_chosen_and_the_contest_ends():
    contest, _ = run(lambda trial: math.inf)
    assert contest.finished
    assert contest.rate is None
    assert contest.reported == {}


def test_the_choice_is_made_on_validation_with_seeds_that_the_report_never_uses():
    contest, asked = run(bowl(1e-2))
    *tuning, final = asked
    # Only the second rung is scored on all parts too: the choice is the same if these scores are others.
    assert {trial.parts for trials in tuning for trial in trials if trial.seed == 101} == {("validation",)}
    assert {t.seed for trials in tuning for t in trials}.isdisjoint(t.seed for t in final)
    assert {t.lr for t in final} == {contest.rate}


def test_the_second_round_decides():
    """A rate that was worse in the short round but better in the longer one is the one that is chosen."""
    contest, _ = run(
        lambda t: {1e-2: 1.0, 1.8e-2: 1.1}.get(t.lr, 2.0) if t.steps == 30 else {1e-2: 1.0, 1.8e-2: 0.5}[t.lr]
    )
    assert contest.rate == 1.8e-2


def test_the_lengths_of_runs_are_those_of_the_study():
    contest, _ = run(bowl(1e-2))
    assert {t.steps for t, _ in contest.first.values()} == {30}
    assert {t.steps for t, _ in contest.second.values()} == {60}
    assert {t.steps for t, _ in contest.reported.values()} == {60}


def test_the_regret_is_measured_with_seeds_of_its_own_before_the_report():
    tuning = Tuning(regret_seeds=(7, 8, 9))
    contest, asked = run(bowl(1e-2), STUDY.model_copy(update={"tuning": tuning}))
    *_, measured, final = asked
    assert {(t.lr, t.seed) for t in measured} == {(lr, s) for lr in (5.6e-3, 1e-2, 1.8e-2) for s in (7, 8, 9)}
    assert {(t.parts, t.steps, t.curve_every) for t in measured} == {(("validation", "test", "ood", "base"), 60, 0)}
    assert {t.seed for t in final} == {1, 2, 3}
    assert set(contest.beside) == {5.6e-3, 1e-2, 1.8e-2}
    assert contest.tuning_steps == 5 * 30 + 2 * 60, "they are no part of the search"
    assert contest.runs == [*contest.searched, *contest.measured, *contest.reported.values()]


def test_full_fine_tuning_and_the_frozen_model_run_along():
    contests = make_contests(resolve(STUDY), {entry.name: entry.build() for entry in STUDY.entrants})
    assert [c.contestant for c in contests] == ["frozen", "lora", "full_ft"]
    without = STUDY.model_copy(update={"full_ft": False, "full_ft_reason": "no room"})
    assert [entry.name for entry in without.entrants] == ["lora"]


def test_the_frozen_model_is_scored_on_every_part_without_a_step():
    report = Reporting(seeds=(1, 2, 3), path=(0.5,))
    contest = make_contests(resolve(STUDY.model_copy(update={"report": report})), {"lora": None, "full_ft": None})[0]
    trial = contest.frozen_trial()
    assert (trial.method, trial.lr, trial.seed, trial.steps) == ("frozen", 0.0, 0, 0)
    assert trial.parts == ("validation", "test", "ood", "base")
    # With the strengths of a path, so that it is scored on the rows of the path too.
    assert (trial.curve_every, trial.path, trial.share) == (0, (0.5,), 1.0)


def test_a_tenth_of_the_data_is_for_the_reported_runs():
    report = Reporting(seeds=(1, 2), path=(0.5,), tenth_of_data=True)
    contest, asked = run(bowl(1e-2), STUDY.model_copy(update={"report": report}))
    assert [(t.seed, t.share, t.path) for t in asked[-1]] == [
        (1, 1.0, (0.5,)),
        (2, 1.0, (0.5,)),
        (1, 0.1, ()),
        (2, 0.1, ()),
    ]
    assert {t.share for trials in asked[:-1] for t in trials} == {1.0}
    assert set(contest.reported) == set(contest.tenth) == {1, 2}
    assert all(t.share == 0.1 for t, _ in contest.tenth.values())
    assert contest.runs == [*contest.searched, *contest.reported.values()]


def test_every_contestant_of_a_seed_sees_the_same_batches():
    import torch

    examples = Examples({"input_ids": torch.arange(50).reshape(10, 5)}, 1)
    one, same, other = (
        torch.cat([batch["input_ids"] for batch in batches(examples, 4, 6, seed)]) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert sorted(one[:10, 0].tolist()) == list(range(0, 50, 5))


def test_a_trials_name_follows_from_what_decides_it_and_nothing_else():
    _, asked = run(bowl(1e-2))
    trial = asked[0][0]
    assert dataclasses.replace(trial, model="elsewhere/the/same").id == trial.id
    for change in ({"lr": 1.0}, {"seed": 9}, {"steps": 9}, {"model_hash": "x"}, {"code": "x"}, {"adapter": "{}"}):
        assert dataclasses.replace(trial, **change).id != trial.id
