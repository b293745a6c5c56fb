"""The luck of a choice of learning rate, in contests that the test makes up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adapterlab.lab.contest import make_contests, play
from adapterlab.lab.effects import compare, compare_across, gained, luck_of_choice, run_variance
from adapterlab.lab.metrics import Results
from adapterlab.lab.study import Contestant, Study, Training
from adapterlab.lab.trial import Outcome
from tests.lab.test_standing import made_up


def tuned(apart: float, noise: float, names: tuple[str, ...] = ("lora", "oft", "ia3"), seed: int = 0) -> Results:
    """Contests whose two best rates differ by `apart` in validation loss, and whose runs vary by `noise`."""
    study = Study(
        name="made-up",
        tasks=("prose",),
        contestants=tuple(Contestant(adapter=name) for name in names),
        training=Training(steps=40),
    )
    rng = np.random.default_rng(seed)
    contests = make_contests(study, {c.name: c.build() for c in study.entrants})
    for contest in contests:
        playing, outcomes = play(contest), None
        while True:
            try:
                trials = playing.send(outcomes)
            except StopIteration:
                break
            outcomes = {}
            for trial in trials:
                loss = 1 + {3.2e-3: 0.0, 1e-2: apart}.get(trial.lr, 1.0)
                loss += rng.normal(0, noise) if trial.steps == 40 else 0.0
                scores = dict.fromkeys(("validation", "test", "ood", "base"), (loss, 0.5))
                outcomes[trial] = Outcome("ok", scores, (), 1, 1.0, 0.0)
    return Results(contests)


def test_a_toss_up_between_two_rates_is_worth_a_quarter_of_their_distance_squared():
    results = tuned(apart=1e-6, noise=1.0)
    assert luck_of_choice(results, results.contests["lora", "prose"]) == pytest.approx(0.25e-12, rel=1e-3)


def test_a_clear_choice_has_no_luck_in_it():
    results = tuned(apart=1.0, noise=0.01)
    assert luck_of_choice(results, results.contests["lora", "prose"]) < 1e-6
    assert luck_of_choice(results, results.contests["frozen", "prose"]) == 0


def test_between_the_two_it_is_what_choosing_again_and_again_gives():
    results = tuned(apart=0.1, noise=0.1, names=("lora", "oft", "ia3", "dora", "pissa", "vera"))
    deviation = math.sqrt(run_variance(results, "prose"))
    rng = np.random.default_rng(1)
    losses = np.array([0.0, 0.1]) + rng.normal(0, deviation, (200_000, 2))
    expected = np.array([0.0, 0.1])[losses.argmin(axis=1)].var()
    assert luck_of_choice(results, results.contests["lora", "prose"]) == pytest.approx(expected, rel=0.02)


def test_the_variance_of_a_run_leaves_out_what_a_seed_does_to_all():
    names = ("lora", "oft", "ia3", "dora", "pissa", "vera", "hra", "boft", "goft", "loha", "lokr", "miss")
    found = [run_variance(tuned(0.1, 0.1, names, seed=i), "prose") for i in range(20)]
    assert np.mean(found) == pytest.approx(0.01, rel=0.15)
    shared = made_up({}, {}, noise=0.0)
    assert run_variance(shared, "prose") == 0


def test_effects_are_over_tasks_that_weigh_the_same():
    results = made_up({"lora": 0.2, "oft": 0.3}, {"lora": 0.1, "oft": 0.02})
    assert compare(results, "oft", "lora", "in_domain").mean == pytest.approx(0.1, abs=0.003)
    assert compare(results, "oft", "lora", "forgetting").mean == pytest.approx(0.08)
    assert gained(results, "oft", "in_domain").mean == pytest.approx(0.3, abs=0.003)
    across = compare_across(results, "oft", "lora", "in_domain")
    assert set(across.tasks) == {"prose", "restyle"}
    assert across.overall.n == 2
