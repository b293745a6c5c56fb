"""The variance that the selection of a learning rate adds, in contests that the test makes up."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from adapterlab.lab.analysis.calibration import simulate
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.noise_model import QUICK, World
from adapterlab.lab.analysis.rate_noise import Residuals, rate_noise
from adapterlab.lab.analysis.rate_response import Line, fit_line, responses_of, typical
from adapterlab.lab.analysis.selection import (
    NO_SELECTION,
    REPLAYS,
    ROUGH_REPLAYS,
    Curve,
    Selection,
    select_again,
)
from adapterlab.lab.run.rate_priors import RatePrior
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Study, Training, Tuning


def test_the_variance_of_a_sum_is_that_of_the_sum_at_each_rate():
    """Two metrics of one contestant respond to the same rate, so their variances do not simply add up."""
    shares = {1e-3: 0.25, 1e-2: 0.5, 1e-1: 0.25}
    selection = Selection(shares, {"forgetting": Line(0.02, 1e-2), "out_of_domain": Line(-0.02, 1e-2)})
    assert selection.variance({"forgetting": 1.0}) == pytest.approx(0.02**2 / 2)
    assert selection.variance({"forgetting": 1.0, "out_of_domain": 1.0}) == pytest.approx(0.0)
    assert selection.variance({"forgetting": 1.0, "out_of_domain": -1.0}) == pytest.approx(0.04**2 / 2)
    assert selection.variance({"accuracy": 1.0}) == 0
    assert NO_SELECTION.variance({"forgetting": 1.0}) == 0


def test_a_line_is_that_of_least_squares():
    values = {1e-3: 0.01, 1e-2: 0.03, 1e-1: 0.04}
    line, expected = fit_line(values), np.polyfit([-3, -2, -1], list(values.values()), 1)[0]
    assert line is not None
    assert line.slope == pytest.approx(expected)
    assert line(1e-1) - line(1e-2) == pytest.approx(expected)
    assert line(10**-0.5) - line(1e-1) == pytest.approx(expected / 2)
    assert line(1.0) == line(10**-0.5)  # constant half a decade beyond the rates
    assert fit_line({1e-3: 0.01}) is None
    assert fit_line({1e-3: 0.01, 1e-2: math.nan}) is None


def test_a_curve_goes_through_what_was_tried_and_is_a_parabola_about_the_best():
    curve = Curve({lr: (math.log10(lr) + 2.1) ** 2 for lr in (1e-4, 1e-3, 1e-2, 1e-1)})
    assert curve(1e-4) == pytest.approx(1.9**2)
    assert curve(10**-2.1) == pytest.approx(0, abs=1e-9)
    assert curve(10**-3.5) == pytest.approx((1.9**2 + 0.9**2) / 2)
    assert curve(1e-9) == curve(1e-4)
    assert curve(1.0) == pytest.approx(curve(1e-1))


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


@pytest.fixture(scope="module")
def simulated():
    """Studies of four contestants that are all the same, whose best rate lies between two rates of the lattice."""
    names = ("lora", "oft", "ia3", "dora")
    plan = Study(
        name="made-up",
        tasks=("restyle",),
        contestants=tuple(Contestant(adapter=name, start=5.6e-3) for name in names),
        full_ft=False,
        full_ft_reason="not asked here",
        training=Training(steps=40),
        tuning=Tuning(regret_sample=0),
    )
    world = [World({"restyle": QUICK["restyle"]}, {}, True, np.random.default_rng(i), -2.12) for i in range(40)]
    return [simulate(resolve(plan), each) for each in world]


def test_the_noise_beside_the_rate_leaves_out_what_a_seed_does_to_all_rates(simulated):
    """By the noise model a run's own standard deviation is 0.0023, and that of a seed is 0.0021."""
    found = [rate_noise(results, "restyle") for results in simulated]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(QUICK["restyle"].own, rel=0.35)


def test_rates_that_are_selected_rarely_are_counted(simulated):
    """A tenth of the searches that choose a far rate may make most of the variance; few repetitions miss them."""
    usual, many = (
        select_again(simulated[0], simulated[0].contests["lora", "restyle"], 0.006, replays)
        for replays in (REPLAYS, 8000)
    )
    weights = {"out_of_domain": 1.0}
    assert usual.variance(weights) == pytest.approx(many.variance(weights), rel=0.15)


def test_selected_rates_vary_as_those_of_many_studies_do(simulated):
    """The best rate lies half-way between two rates of the lattice, so studies choose either of them."""
    chosen, guessed = [], []
    for results in simulated:
        selections = Effects.of(results, ROUGH_REPLAYS).selections
        for name in results.contestants:
            chosen.append(math.log10(results.contests[name, "restyle"].rate))
            rates, shares = zip(*selections[name, "restyle"].shares.items(), strict=True)
            guessed.append(float(np.cov(np.log10(rates), aweights=shares, ddof=0)))
    assert 1 / 3 < np.mean(guessed) / np.var(chosen) < 3


@pytest.fixture
def trusted(monkeypatch):
    """Every method starts at a trusted prediction, 0.3 steps of the lattice above the best rate."""
    priors = {name: RatePrior(10**-2.05, 256, None, 20, 0.5) for name in NAMES}
    monkeypatch.setattr("adapterlab.lab.run.resolve.rate_priors", lambda: priors)


NAMES = ("lora", "oft", "ia3", "dora")


def confirmed(number: int, regret_sample: int, tasks: tuple[str, ...] = ("restyle",)) -> Results:
    """A simulated study whose searches end with the first rung."""
    plan = Study(
        name="made-up",
        tasks=tasks,
        contestants=tuple(Contestant(adapter=name) for name in NAMES),
        full_ft=False,
        full_ft_reason="not asked here",
        training=Training(steps=40),
        tuning=Tuning(regret_sample=regret_sample, extensions=0),
    )
    world = World({task: QUICK[task] for task in tasks}, {}, True, np.random.default_rng(number), -2.12)
    results = simulate(resolve(plan), world)
    assert not any(contest.second for contest in results.contests.values())
    return results


@pytest.mark.parametrize("regret_sample", [0, 2])
def test_without_a_second_rung_the_noise_is_that_of_the_regrets_or_the_reported_runs(trusted, regret_sample):
    found = [rate_noise(confirmed(i, regret_sample), "restyle") for i in range(40)]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(QUICK["restyle"].own, rel=0.2)


def test_residuals_are_those_of_an_analysis_of_variance():
    table = np.random.default_rng(0).normal(size=(4, 3))
    frame = pd.DataFrame([(i, j, x) for (i, j), x in np.ndenumerate(table)], columns=["row", "column", "x"])
    fit = smf.ols("x ~ C(row) + C(column)", frame).fit()
    found = Residuals.of(table.tolist())
    assert (found.squares, found.df) == (pytest.approx(fit.ssr), fit.df_resid)


def test_a_contest_without_runs_beside_its_rate_is_given_the_typical_response_of_the_others(trusted):
    results = confirmed(0, 2)
    own = {name: responses_of(results, results.contests[name, "restyle"]) for name in NAMES}
    measured = [name for name in NAMES if own[name]]
    assert len(measured) == 2, "the sample of the regret"
    slopes = [own[name]["forgetting"].slope for name in measured]
    selections = Effects.of(results, ROUGH_REPLAYS).selections
    for name in NAMES:
        slope = selections[name, "restyle"].responses["forgetting"].slope
        expected = own[name]["forgetting"].slope if name in measured else math.sqrt(np.mean(np.square(slopes)))
        assert abs(slope) == pytest.approx(abs(expected))


def test_the_repeated_search_is_that_of_the_contest(trusted):
    """A confirmed prediction is averaged with what is found, so fewer repeated searches leave the rate than without one."""
    results = confirmed(0, 0)
    contest = results.contests["lora", "restyle"]
    alone = replace(contest, resolved=replace(contest.resolved, study=_started(contest.study)))
    with_it, without = (select_again(results, c, 0.004, 400).shares.get(contest.rate, 0.0) for c in (contest, alone))
    assert 0 < without < with_it


def _started(study: Study) -> Study:
    entries = tuple(entry.model_copy(update={"start": 1e-2}) for entry in study.contestants)
    return study.model_copy(update={"contestants": entries})


def test_the_typical_slope_is_the_root_mean_square_with_the_sign_of_the_mean():
    assert typical([Line(-0.03, 1e-2), Line(0.01, 1e-2)], 1.0) == Line(-math.sqrt(5e-4), 1.0)
