"""Noise read from a ledger, and outcomes drawn from it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.calibration import simulate
from adapterlab.lab.analysis.contrast import difference
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.noise_model import Noise, World, fit_noise, noise_scale
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training, Tuning

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
    tuning=Tuning(regret_sample=0),
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
        for i in range(12)
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
    differences = Effects.of(results).numbers(difference("oft", "lora", "in_domain"))
    assert all(d == pytest.approx(0.01) for d in differences.values())


def test_a_ledger_with_too_little_in_it_is_refused():
    with pytest.raises(AdapterlabError, match="has no finished trial"):
        fit_noise([])
    rows = ledger_of(World(KNOWN, {}, True, np.random.default_rng(0), -2.5))
    with pytest.raises(AdapterlabError, match="at least two contestants"):
        fit_noise([row for row in rows if "lora" in row[0].adapter or "frozen" in row[0].adapter])
    worse = [
        (t, o if t.steps == 0 else dataclasses.replace(o, scores=dict.fromkeys(o.scores, (2.0, 0.5))), environment)
        for t, o, environment in rows
    ]
    with pytest.raises(AdapterlabError, match="no contestant learned anything on prose"):
        fit_noise(worse)


CENTRE = -2.0
ALONE = Study(
    name="made-up",
    tasks=("prose",),
    contestants=tuple(Contestant(adapter=name) for name in ("lora", "oft", "ia3")),
    full_ft=False,
    full_ft_reason="not asked here",
    training=Training(steps=40),
    tuning=Tuning(regret_sample=0),
    report=Reporting(seeds=(1, 2, 3)),
)


def fitted(effects=None, **changes) -> Noise:
    """The fit to outcomes without noise, whose best rate is one that the search tries."""
    noise = {"prose": dataclasses.replace(Noise(1.2, 0.1, 40, 0.6, 0.5, 0.0, 0.0), **changes)}
    return fit_noise(ledger_of(World(noise, effects or {}, True, np.random.default_rng(0), CENTRE), ALONE))["prose"]


def test_without_noise_the_fit_is_exact():
    found = fitted()
    assert found.frozen == 1.2
    assert found.steps == 40
    assert found.gain == pytest.approx(0.1)
    assert found.growth == pytest.approx(0.6)
    assert (found.own, found.shared) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    # The best rate is met exactly; of a pair of rates it lies half-way between on average, which costs half as much.
    assert found.sharpness == pytest.approx(2 * 0.5)


@pytest.mark.parametrize(
    ("growth", "fit"), [(0.05, 0.1), (0.1, 0.1), (0.105, 0.105), (1.45, 1.45), (1.5, 1.5), (2.0, 1.5)]
)
def test_growth_is_held_between_a_tenth_and_one_and_a_half(growth, fit):
    assert fitted(growth=growth).growth == pytest.approx(fit)


@pytest.mark.parametrize(("loss", "gain"), [(0.05, (0.1 + 0.1 + 0.05) / 3), (0.0501, 0.1), (0.09, 0.1)])
def test_contestants_with_less_than_half_of_the_best_gain_are_left_out_of_the_fit(loss, gain):
    assert fitted({"ia3": -loss}, frozen=1.25).gain == pytest.approx(gain, rel=1e-6)


def test_growth_and_sharpness_have_defaults_if_nothing_was_learned_in_the_search():
    rows = ledger_of(
        World({"prose": Noise(1.2, 0.1, 40, 0.6, 0.5, 0.0, 0.0)}, {}, True, np.random.default_rng(0), CENTRE), ALONE
    )
    flat = [
        (
            trial,
            outcome if trial.rows else dataclasses.replace(outcome, scores={"validation": (1.2, 0.5)}),
            e,
        )
        for trial, outcome, e in rows
    ]
    found = fit_noise(flat)["prose"]
    assert (found.growth, found.sharpness) == (0.5, 1.0)


def test_shared_and_own_variance_are_those_of_a_two_way_layout():
    """The expected mean square of seeds is that of the rest and, as often as there are contestants, the shared one."""
    rows = ledger_of(
        World({"prose": Noise(1.2, 0.1, 40, 0.6, 0.5, 0.0, 0.0)}, {}, True, np.random.default_rng(0), CENTRE), ALONE
    )
    rng = np.random.default_rng(5)
    shared, own = rng.normal(0, 0.02, 3), rng.normal(0, 0.005, (3, 3))
    names = ["lora", "oft", "ia3"]
    table = 1.1 + shared + own

    def drawn(trial, outcome):
        if not trial.rows or trial.method == "frozen":
            return outcome
        loss = float(table[names.index(trial.method), trial.seed - 1])
        return dataclasses.replace(outcome, scores=outcome.scores | {"test": (loss, 0.5)})

    found = fit_noise([(trial, drawn(trial, outcome), e) for trial, outcome, e in rows])["prose"]
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    within = (rest**2).sum() / 4
    seeds = 3 * ((table.mean(0) - table.mean()) ** 2).sum() / 2
    assert found.own == pytest.approx(np.sqrt(within))
    assert found.shared == pytest.approx(np.sqrt((seeds - within) / 3))
    assert found.shared > 0.005


def world_trial(**changes):
    contest = make_contests(resolve(ALONE), {c.name: c.build() for c in ALONE.contestants})[1]
    return dataclasses.replace(contest.trial(1e-2, 1, 40, reported=True), **changes)


def test_outcomes_without_noise_follow_the_formula():
    noise = Noise(1.2, 0.1, 40, 0.5, 0.3, 0.0, 0.0)
    world = World({"prose": noise}, {"oft": 0.02}, True, np.random.default_rng(0), -2.5)
    for name, more in (("lora", 0.0), ("oft", 0.02)):
        for steps, growth in ((40, 1.0), (10, 0.5), (160, 2.0)):
            gain = (0.1 + more) * growth * (1 - 0.3 * 0.5**2)
            outcome = world.outcome(name, world_trial(steps=steps, curve_every=20))
            for part in ("validation", "test", "ood"):
                assert outcome.scores[part][0] == pytest.approx(1.2 - gain)
            assert outcome.scores["base"][0] == pytest.approx(1.2 + gain)
            assert [step for step, _ in outcome.curve] == list(range(20, steps, 20))
            assert outcome.status == "ok"
    frozen = world.outcome("frozen", world_trial(steps=0))
    assert {loss for loss, _ in frozen.scores.values()} == {1.2}
    assert (frozen.curve, frozen.parameters) == ((), 0)
    assert world.outcome("lora", world_trial(curve_every=0)).curve == ()


@pytest.mark.parametrize("correlated", [True, False])
def test_draws_have_the_spread_of_the_model(correlated):
    """A deviation of n draws is known to within a share of 1 / sqrt(2 n)."""
    world = World({"prose": Noise(1.2, 0.1, 40, 0.5, 0.0, 0.03, 0.04)}, {}, correlated, np.random.default_rng(0), -2.0)
    losses = np.array([[world.outcome("lora", world_trial(seed=s)).validation for _ in range(4)] for s in range(500)])
    assert losses.mean() == pytest.approx(1.1, abs=0.01)
    assert losses[:, 0].std() == pytest.approx(0.05, rel=0.12)
    within = losses.std(axis=1, ddof=1)
    assert np.sqrt((within**2).mean()) == pytest.approx(0.04 if correlated else 0.05, rel=0.12)


@pytest.mark.parametrize(("share", "scale"), [(0.0, 0.0), (0.4, 0.4), (1.0, 1.0), (1.3, 1.0), (-0.4, 0.4), (-3.0, 1.0)])
def test_noise_grows_with_the_gain_up_to_that_at_the_best_rate(share, scale):
    assert noise_scale(share) == pytest.approx(scale)


def test_each_task_is_fitted_to_its_finished_trials():
    world = World(KNOWN, {}, True, np.random.default_rng(0), CENTRE)
    rows = ledger_of(world, ALONE.model_copy(update={"tasks": ("prose", "restyle")}))
    found = fit_noise(rows)
    assert set(found) == {"prose", "restyle"}
    lost = [(t, dataclasses.replace(o, status="diverged", scores={}), e) for t, o, e in rows if t.task == "restyle"]
    assert set(fit_noise([row for row in rows if row[0].task == "prose"] + lost)) == {"prose"}


def test_two_contestants_with_the_same_two_seeds_are_enough():
    report = Reporting(seeds=(1, 2))
    world = World(KNOWN, {}, True, np.random.default_rng(0), CENTRE)
    few = ALONE.model_copy(update={"report": report, "contestants": ALONE.contestants[:2]})
    assert set(fit_noise(ledger_of(world, few))) == {"prose"}
    with pytest.raises(AdapterlabError, match="two contestants"):
        fit_noise(ledger_of(world, few.model_copy(update={"report": Reporting(seeds=(1,))})))
