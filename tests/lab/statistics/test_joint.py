"""The joint posterior: closed forms, and statements that are true as often as they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterlab.lab.statistics.joint import Draws, JointModel

MODEL = JointModel(scale=0.01, between=0.004)


def over(draws: Draws, tasks: list[int]) -> np.ndarray:
    """Each contestant's value on tasks like these, `(samples, contestants)`."""
    return np.stack([draws.over(contestant, tasks) for contestant in range(len(draws.theta))], axis=1)


def test_a_difference_has_a_cauchy_prior_on_one_task_without_spread():
    draws = over(JointModel(scale=0.01, between=1e-9).prior(3, 1, 40_000, seed=0), [0])
    differences = draws[:, 0] - draws[:, 1]
    # The grid cuts off the last 1/24 of each tail of the scale, so quantiles are compared, not moments.
    for level in (0.6, 0.75, 0.85):
        assert np.quantile(differences, level) == pytest.approx(stats.cauchy.ppf(level, scale=0.01), rel=0.1)


def test_without_spread_and_with_small_errors_the_posterior_is_the_likelihood():
    model, values = JointModel(scale=1.0, between=1e-9), np.array([[0.05, 0.05], [0.03, 0.03]])
    draws = over(model.posterior(values, np.full((2, 2), 1e-6), 20_000, seed=0), [0, 1])
    difference = draws[:, 0] - draws[:, 1]
    assert difference.mean() == pytest.approx(0.02, abs=5e-5)
    assert difference.std() == pytest.approx((2 * 1e-6 / 2) ** 0.5, rel=0.03)


def test_comparisons_with_one_reference_are_correlated_by_a_half():
    model = JointModel(scale=1.0, between=1e-9)
    draws = over(model.posterior(np.zeros((3, 1)), np.full((3, 1), 1e-6), 20_000, seed=0), [0])
    one, other = draws[:, 1] - draws[:, 0], draws[:, 2] - draws[:, 0]
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(0.5, abs=0.03)


def test_how_much_all_contestants_gain_on_a_task_says_nothing_of_their_differences():
    """As in a two-way layout: the main effect of the tasks is no deviation of a contestant on one of them."""
    values, variances = np.array([[0.021, 0.019], [0.001, -0.001], [0.0, 0.0]]), np.full((3, 2), 2e-6)
    levels = [np.zeros(2), np.array([0.05, 0.25]), np.array([-0.3, 0.1])]
    likely = []
    for level in levels:
        draws = over(MODEL.posterior(values + level, variances, 40_000, seed=0), [0, 1])
        differences = draws[:, :1] - draws[:, 1:]
        likely.append([(differences > margin).mean(axis=0) for margin in (0.005, 0.015, 0.02)])
    assert np.allclose(likely[1], likely[0], atol=0.015)
    assert np.allclose(likely[2], likely[0], atol=0.015)


def test_tasks_that_disagree_leave_the_matter_open():
    """The two forgetting differences of oft and lora that an audit of the quick study found."""
    variances = np.full((2, 2), 4e-6)
    opposed = over(MODEL.posterior(np.array([[-0.013, 0.030], [0.0, 0.0]]), variances, 20_000, seed=0), [0, 1])
    agreed = over(MODEL.posterior(np.array([[0.0085, 0.0085], [0.0, 0.0]]), variances, 20_000, seed=0), [0, 1])
    assert 0.5 < (opposed[:, 0] > opposed[:, 1]).mean() < 0.8
    assert (agreed[:, 0] > agreed[:, 1]).mean() > 0.95


def test_a_contestant_that_was_not_measured_on_a_task_is_judged_by_the_other():
    values = np.array([[0.05, np.nan], [0.03, 0.031]])
    draws = over(MODEL.posterior(values, np.full((2, 2), 1e-6), 20_000, seed=0), [0, 1])
    assert 0.8 < (draws[:, 0] > draws[:, 1]).mean() < 0.999


def test_draws_depend_on_the_seed_alone():
    values, variances = np.array([[0.05], [0.03]]), np.full((2, 1), 1e-6)
    first, second = (MODEL.posterior(values, variances, 100, seed=3) for _ in range(2))
    assert np.array_equal(first.theta, second.theta)


@pytest.mark.parametrize(
    "spread", [pytest.param(0.0, marks=pytest.mark.soak), 0.004, pytest.param(0.008, marks=pytest.mark.soak)]
)
def test_what_is_said_to_be_likely_is_true_as_often(spread):
    """Planted truths at three spreads between tasks: of statements said to be 80 % likely, about 80 % are true."""
    rng = np.random.default_rng(1)
    said, right = [], []
    for i in range(400):
        truth = rng.normal(0, 0.01)
        seen = truth + rng.normal(0, spread, size=2) + rng.normal(0, 0.002, size=2)
        draws = over(MODEL.posterior(np.stack([seen, np.zeros(2)]), np.full((2, 2), 2e-6), 1500, seed=i), [0, 1])
        share = float((draws[:, 0] > draws[:, 1]).mean())
        said.append(max(share, 1 - share))
        right.append((share > 0.5) == (truth > 0))
    near = [(p, yes) for p, yes in zip(said, right, strict=True) if 0.7 <= p < 0.9]
    spoken, true = np.mean(near, axis=0)
    error = 2 * (spoken * (1 - spoken) / len(near)) ** 0.5
    # The model expects some spread: where there is none its statements are more often true than said.
    assert spoken - error < true < spoken + error + (0.06 if spread == 0 else 0.0)
    assert abs(np.mean(right) - np.mean(said)) < 0.05


def test_at_no_correlation_the_draws_are_of_the_prior_and_change_little_by_little():
    values, variances = np.array([[0.05, 0.04], [0.03, 0.03], [0.0, 0.01]]), np.full((3, 2), 1e-6)
    posterior = MODEL.condition(values, variances)
    nothing, little, all_ = posterior.draws(20_000, 0, [0.0, 0.001, 1.0])
    prior = MODEL.prior(3, 2, 20_000, seed=0)
    assert np.array_equal(nothing.theta, prior.theta)
    assert np.array_equal(nothing.order, little.order)
    # The same random numbers serve all places, so nearly all draws keep their order of the contestants.
    for draws, least, most in ((little, 0.98, 0.9999), (all_, 0.3, 0.9)):
        leads = [over(each, [0, 1])[:, 0] > over(each, [0, 1])[:, 1] for each in (draws, prior)]
        assert least < (leads[0] == leads[1]).mean() < most
    (alone,) = posterior.draws(20_000, 0, [1.0])
    assert np.array_equal(alone.theta, all_.theta)
