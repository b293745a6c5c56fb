"""The luck of a choice of learning rate, in contests that the test makes up."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from adapterlab.lab.analysis.calibration import simulate
from adapterlab.lab.analysis.effects import Curve, Effects, run_variance
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.noise_model import QUICK, World
from adapterlab.lab.analysis.statistics import paired, stratified
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


def test_a_metric_with_one_number_for_a_task_is_compared_over_tasks():
    """The tasks are the sample of the t-test; there are no seeds within a task."""
    results = made_up({"lora": 0.2, "oft": 0.4}, {})
    oft, lora = results.contests["oft", "prose"], results.contests["lora", "prose"]
    oft.first = {lr: oft.first[lr] for lr in (1e-3, 3.2e-3)}
    effects = Effects.of(results)
    widths = {
        key: effects.values("oft", "learning_rate_width")[key] - value
        for key, value in effects.values("lora", "learning_rate_width").items()
    }
    assert set(widths) == {("prose", 0), ("restyle", 0)}
    assert widths["prose", 0] != widths["restyle", 0]
    assert effects.compare("oft", "lora", "learning_rate_width") == paired(list(widths.values()))
    assert lora.rate == 3.2e-3


def test_a_curve_with_the_best_rate_at_its_edge_is_linear():
    curve = Curve({1e-3: 1.0, 1e-2: 0.5, 1e-1: 0.25})
    assert curve.inside is None
    assert curve(10**-1.5) == pytest.approx(0.375)
    assert curve(1.0) == 0.25
    falling = Curve({1e-3: 0.25, 1e-2: 0.5, 1e-1: 1.0})
    assert falling.inside is None
    assert falling(10**-2.5) == pytest.approx(0.375)
    assert falling(1e-6) == 0.25
    pair = Curve({1e-3: 1.0, 1e-2: 0.5})
    assert pair(10**-2.5) == pytest.approx(0.75)


def test_a_curve_is_linear_beyond_the_neighbours_of_the_best_rate():
    curve = Curve({1e-4: 3.0, 1e-3: 1.0, 1e-2: 0.0, 1e-1: 1.0, 1.0: 5.0})
    assert curve.inside == (-3, -1)
    assert curve(10**-2.5) == pytest.approx(0.25)
    assert curve(1e-3) == pytest.approx(1.0)
    assert curve(10**-3.5) == pytest.approx(2.0)
    assert curve(10**-0.25) == pytest.approx(4.0)


def test_gains_and_differences_are_positive_if_better():
    results = made_up({"lora": 0.2, "oft": 0.3}, {"lora": 0.1, "oft": 0.02}, noise=0.0)
    effects = Effects.of(results)
    assert set(effects.gains("oft", "in_domain", ["prose"])) == {("prose", seed) for seed in (1, 2, 3)}
    assert effects.gains("oft", "in_domain")["prose", 1] == pytest.approx(0.3)
    assert effects.gains("oft", "accuracy")["prose", 1] == 0
    assert effects.differences("oft", "lora", "forgetting")["prose", 1] == pytest.approx(0.08)
    assert effects.differences("oft", "lora", "parameters")["prose", 1] == pytest.approx(-5)
    widths = effects.differences("oft", "lora", "learning_rate_width")
    assert widths["prose", 0] >= 0


def test_the_selection_variance_applies_to_in_domain_metrics_only():
    results = tuned(apart=0.1, noise=0.1, names=("lora", "oft"), seed=1)
    effects = Effects.of(results)
    variances = {name: effects.selection_variances[name, "prose"] for name in ("lora", "oft")}
    assert all(variance > 0 for variance in variances.values())
    inside = effects.differences("oft", "lora", "in_domain")
    expected = stratified({"prose": list(inside.values())}, {"prose": sum(variances.values())})
    assert effects.compare("oft", "lora", "in_domain") == expected
    outside = effects.differences("oft", "lora", "out_of_domain")
    assert effects.compare("oft", "lora", "out_of_domain") == stratified({"prose": list(outside.values())})
    gains = effects.gains("oft", "in_domain")
    assert effects.gained("oft", "in_domain") == stratified(
        {"prose": list(gains.values())}, {"prose": variances["oft"]}
    )
    nothing = dict.fromkeys(inside, 0.0)
    assert effects.over_tasks(nothing, ("oft", "lora"), "in_domain").error == 0


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (3, 4), (5, 2)])
def test_the_variance_of_a_run_is_that_of_a_two_way_layout(rows, columns):
    """The residual mean square of contestants by seeds, as an ordinary least squares fit of both gives it."""
    names = ("lora", "oft", "ia3", "dora", "vera")[:rows]
    results = tuned(0.1, 0.1, names, seed=7)
    table = np.random.default_rng(0).normal(size=(rows, columns))
    study = results.study.model_copy(
        update={
            "report": results.study.report.model_copy(update={"seeds": tuple(range(columns))}),
            "full_ft": False,
        }
    )
    results = dataclasses.replace(results, resolved=dataclasses.replace(results.resolved, study=study))
    for name, losses in zip(names, table, strict=True):
        contest = results.contests[name, "prose"]
        trial, outcome = next(iter(contest.reported.values()))
        contest.reported = {
            seed: (trial, dataclasses.replace(outcome, scores={"validation": (float(loss), 0.5)}))
            for seed, loss in enumerate(losses)
        }
    row, column = (
        np.eye(size)[where] for size, where in zip((rows, columns), np.indices((rows, columns)), strict=True)
    )
    design = np.concatenate(
        [row.reshape(-1, rows), column.reshape(-1, columns) if rows > 1 else row.reshape(-1, rows)], 1
    )
    residuals = table.flatten() - design @ np.linalg.lstsq(design, table.flatten(), rcond=None)[0]
    freedom = (rows - 1) * (columns - 1) if rows > 1 else columns - 1
    assert run_variance(results, "prose") == pytest.approx((residuals**2).sum() / freedom)
