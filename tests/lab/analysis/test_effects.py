"""The luck of a choice of learning rate, in contests that the test makes up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adapterlab.lab.analysis.calibration import simulate
from adapterlab.lab.analysis.effects import Curve, Effects, run_variance
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.noise_model import QUICK, World
from adapterlab.lab.run.contest import finish, make_contests
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Study, Training, Tuning
from adapterlab.lab.trial.spec import Outcome, Trial
from tests.lab.analysis.test_scoreboard import made_up


def tuned(apart: float, noise: float, names: tuple[str, ...] = ("lora", "oft", "ia3"), seed: int = 0) -> Results:
    """Contests whose two best rates differ by `apart` in validation loss, and whose runs vary by `noise`."""
    study = Study(
        name="made-up",
        tasks=("prose",),
        contestants=tuple(Contestant(adapter=name) for name in names),
        training=Training(steps=40),
        tuning=Tuning(start=(1e-3, 3.2e-3, 1e-2), rates=3),
    )
    rng = np.random.default_rng(seed)
    contests = make_contests(resolve(study), {c.name: c.build() for c in study.entrants})

    def run(trial: Trial) -> Outcome:
        loss = 1 + {3.2e-3: 0.0, 1e-2: apart}.get(trial.lr, 1.0)
        loss += rng.normal(0, noise) if trial.steps == 40 else 0.0
        return Outcome("ok", dict.fromkeys(("validation", "test", "ood", "base"), (loss, 0.5)), (), 1, 1.0, 0.0)

    for contest in contests:
        finish(contest, run)
    return Results.of(contests)


def test_a_clear_choice_has_no_luck_in_it():
    results = tuned(apart=1.0, noise=0.001)
    assert Effects.of(results).selection_variances["lora", "prose"] < 1e-6


@pytest.mark.parametrize(("centre", "certain"), [(-1.9, True), (-2.25, False)])
def test_luck_is_what_the_choices_of_many_studies_vary_by(centre, certain):
    """In a simulated world the loss at any rate is known, so the variance of what studies choose can be counted.

    From a handful of short runs it is told to within a factor of three.
    """
    noise = QUICK["restyle"]
    plan = Study(
        name="made-up",
        tasks=("restyle",),
        contestants=tuple(Contestant(adapter=name) for name in ("lora", "oft", "ia3", "dora")),
        full_ft=False,
        full_ft_reason="not asked here",
        training=Training(steps=40),
        tuning=Tuning(start=(1e-3, 1e-2), rates=5, first_steps=10, second_steps=20),
    )
    chosen, guessed = [], []
    for i in range(40):
        results = simulate(resolve(plan), World({"restyle": noise}, {}, True, np.random.default_rng(i), centre))
        variances = Effects.of(results).selection_variances
        for name in results.contestants:
            contest = results.contests[name, "restyle"]
            chosen.append(noise.gain * noise.sharpness * (math.log10(contest.rate) - centre) ** 2)
            guessed.append(variances[name, "restyle"])
    if certain:  # all studies choose the same rate
        assert np.var(chosen) == pytest.approx(0, abs=1e-12)
        assert np.mean(guessed) < 0.05 * noise.own**2
    else:
        assert 1 / 3 < np.mean(guessed) / np.var(chosen) < 3


def test_a_curve_goes_through_what_was_tried_and_is_a_parabola_about_the_best():
    curve = Curve({lr: (math.log10(lr) + 2.1) ** 2 for lr in (1e-4, 1e-3, 1e-2, 1e-1)})
    assert curve(1e-4) == pytest.approx(1.9**2)
    assert curve(10**-2.1) == pytest.approx(0, abs=1e-9)
    assert curve(10**-3.5) == pytest.approx((1.9**2 + 0.9**2) / 2)
    assert curve(1e-9) == curve(1e-4)
    assert curve(1.0) == pytest.approx(curve(1e-1))


def test_the_variance_of_a_run_leaves_out_what_a_seed_does_to_all():
    names = ("lora", "oft", "ia3", "dora", "pissa", "vera", "hra", "boft", "goft", "loha", "lokr", "miss")
    found = [run_variance(tuned(0.1, 0.1, names, seed=i), "prose") for i in range(20)]
    assert np.mean(found) == pytest.approx(0.01, rel=0.15)
    shared = made_up({}, {}, noise=0.0)
    assert run_variance(shared, "prose") == 0


def test_effects_are_over_tasks_that_weigh_the_same():
    results = made_up({"lora": 0.2, "oft": 0.3}, {"lora": 0.1, "oft": 0.02})
    effects = Effects.of(results)
    assert effects.compare("oft", "lora", "in_domain").mean == pytest.approx(0.1, abs=0.003)
    assert effects.compare("oft", "lora", "forgetting").mean == pytest.approx(0.08)
    assert effects.gained("oft", "in_domain").mean == pytest.approx(0.3, abs=0.003)
    across = effects.compare_across("oft", "lora", "in_domain")
    assert set(across.tasks) == {"prose", "restyle"}
    assert across.overall.n == 2
