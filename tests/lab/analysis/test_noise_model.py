"""Noise read from a ledger, and outcomes drawn from it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.calibration import simulate
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.noise_model import Noise, World, fit_noise
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training

KNOWN = {
    "prose": Noise(1.17, 0.046, 40, 0.6, 2.6, 0.0012, 0.0025),
    "restyle": Noise(1.02, 0.067, 40, 0.5, 2.1, 0.0025, 0.0016),
}
NAMES = ("lora", "oft", "ia3", "dora", "pissa", "vera")
STUDY = Study(
    name="made-up",
    tasks=("prose", "restyle"),
    contestants=tuple(Contestant(adapter=name) for name in NAMES),
    full_ft=False,
    full_ft_reason="not asked here",
    training=Training(steps=40),
    report=Reporting(seeds=tuple(range(1, 21))),
)


def ledger_of(world: World, study: Study = STUDY):
    """Every run of a simulated study, as a ledger gives them."""
    return [
        (trial, outcome, {})
        for contest in simulate(resolve(study), world).contests.values()
        for rung in (contest.first, contest.second, contest.reported)
        for trial, outcome in rung.values()
    ]


def test_what_is_fitted_is_what_the_outcomes_were_drawn_from():
    found = [
        fit_noise(ledger_of(World(KNOWN, {}, True, np.random.default_rng(i), -2.5)))[task]
        for i in range(5)
        for task in KNOWN
    ]
    for i, task in enumerate(KNOWN):
        mine = found[i::2]
        assert mine[0].frozen == KNOWN[task].frozen
        assert np.mean([n.gain for n in mine]) == pytest.approx(KNOWN[task].gain, rel=0.05)
        assert np.mean([n.own for n in mine]) == pytest.approx(KNOWN[task].own, rel=0.1)
        assert np.mean([n.shared for n in mine]) == pytest.approx(KNOWN[task].shared, rel=0.35)
        assert np.mean([n.growth for n in mine]) == pytest.approx(KNOWN[task].growth, rel=0.2)
        assert 0.5 < np.mean([n.sharpness for n in mine]) / KNOWN[task].sharpness < 2


def test_noise_that_is_all_a_runs_own_is_fitted_as_such():
    found = fit_noise(ledger_of(World(KNOWN, {}, False, np.random.default_rng(0), -2.5)))["restyle"]
    # A little less than at the best rate, which the chosen one is only near.
    assert found.own == pytest.approx(np.hypot(KNOWN["restyle"].own, KNOWN["restyle"].shared), rel=0.2)
    assert found.shared < found.own / 2


def test_what_a_seed_does_is_the_same_for_all_and_a_run_twice_is_two_draws():
    world = World(KNOWN, {}, True, np.random.default_rng(0), -2.5)
    world.noise = {task: dataclasses.replace(noise, own=0.0) for task, noise in KNOWN.items()}
    contest = make_contests(resolve(STUDY), {c.name: c.build() for c in STUDY.contestants})[2]
    one, other = (contest.trial(3.2e-3, seed, 40, reported=True) for seed in (1, 2))
    assert world.outcome("lora", one).scores == world.outcome("oft", one).scores
    assert world.outcome("lora", one).scores != world.outcome("lora", other).scores
    world.noise = KNOWN
    assert world.outcome("lora", one).scores != world.outcome("lora", one).scores


def test_a_run_that_learns_nothing_has_no_noise():
    world = World(KNOWN, {}, False, np.random.default_rng(0), -2.5)
    contest = make_contests(resolve(STUDY), {c.name: c.build() for c in STUDY.contestants})[2]
    edge = 10 ** (-2.5 - KNOWN["prose"].sharpness ** -0.5)  # where the parabola is back at the frozen model's loss
    runs = {
        lr: [world.outcome("lora", contest.trial(lr, s, 40, reported=True)) for s in (1, 2, 3)]
        for lr in (edge, 10**-2.5)
    }
    flat, best = (np.std([o.validation for o in found]) for found in runs.values())
    assert flat < 1e-9 < 1e-4 < best


def test_a_planted_effect_is_added_at_the_reported_steps():
    noise = {task: dataclasses.replace(noise, own=0.0, shared=0.0) for task, noise in KNOWN.items()}
    world = World(noise, {"oft": 0.01}, True, np.random.default_rng(0), np.log10(3.2e-3))
    results = simulate(resolve(STUDY), world)
    differences = Effects.of(results).differences("oft", "lora", "in_domain")
    assert all(d == pytest.approx(0.01) for d in differences.values())


def test_a_ledger_with_too_little_in_it_is_refused():
    with pytest.raises(AdapterlabError, match="has no finished trial"):
        fit_noise([])
    rows = ledger_of(World(KNOWN, {}, True, np.random.default_rng(0), -2.5))
    with pytest.raises(AdapterlabError, match="at least two contestants"):
        fit_noise([row for row in rows if "lora" in row[0].adapter or "frozen" in row[0].adapter])
