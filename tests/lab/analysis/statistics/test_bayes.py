"""Bayes factors against another implementation, and at their ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adapterlab.lab.analysis.statistics import bayes_factor_positive, bayes_factor_within, jzs_one_sided, paired
from adapterlab.lab.analysis.statistics.paired import from_error
from tests.lab.analysis.statistics.published import SLEEP


def test_two_sided_bayes_factor_is_that_of_the_bayesfactor_package():
    """R's `ttestBF(sleep...)` with the default scale gives 17.25888 against no effect: the mean of the two sides."""
    t, n = stats.ttest_1samp(SLEEP, 0).statistic, len(SLEEP)
    assert (jzs_one_sided(t, n) + jzs_one_sided(-t, n)) / 2 == pytest.approx(17.25888, rel=1e-4)


def test_bayes_factor_falls_for_what_speaks_against():
    assert bayes_factor_positive(paired(SLEEP)) > 20
    assert bayes_factor_positive(paired([-d for d in SLEEP])) < 1 / 5
    assert bayes_factor_positive(paired([0.1, -0.1, 0.05, -0.05])) < 1


def test_a_single_pair_says_nothing():
    assert bayes_factor_positive(paired([1.0])) == 1
    assert bayes_factor_within(paired([1.0]), 0.1) == 1


def test_differences_that_do_not_vary_do_not_break_it():
    assert bayes_factor_positive(paired([0.2, 0.2, 0.2])) > 10
    assert 0.3 < bayes_factor_positive(paired([0.0, 0.0, 0.0])) < 1


def test_within_is_likely_when_the_mean_is_near_zero_for_sure():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.01, 20), rng.normal(1, 0.01, 20)
    assert bayes_factor_within(paired(near), 0.1) > 100
    assert bayes_factor_within(paired(far), 0.1) < 0.01


def test_within_is_undecided_when_nothing_is_known():
    assert bayes_factor_within(paired([-50.0, 50.0]), 0.01) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("mean", "error", "df", "within"),
    [
        (0.0, 0.05, 4, 0.1),
        (0.08, 0.05, 4, 0.1),
        (-0.3, 0.2, 2, 0.1),
        (0.12, 0.01, 9, 0.1),
        (-0.09, 0.004, 9, 0.1),
        (0.5, 1.0, 2, 0.01),
        (0.02, 0.02, 3.7, 0.5),
    ],
)
def test_within_is_the_odds_of_the_region_on_a_fine_grid(mean, error, df, within):
    """Posterior over prior odds, both summed over a grid; the prior's are even."""
    half = np.linspace(0, 1, 200_001)[1:]
    tail = within / half[:-1]  # from `within` to far out, as the Cauchy prior thins

    def mass(values: np.ndarray) -> float:
        density = stats.t.pdf((values - mean) / error, df) * stats.cauchy.pdf(values, scale=within)
        return float(np.trapezoid(density, values))

    inside = mass(np.linspace(-within, within, 40_001))
    outside = mass(np.sort(tail)) + mass(np.sort(-tail))
    expected = min(1e4, max(1e-4, inside / outside))
    assert bayes_factor_within(from_error(mean, error, df, 5), within) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("t", "n"), [(0.0, 3), (0.5, 3), (2.5, 3), (-1.0, 6), (4.0, 10), (8.0, 4)])
def test_one_sided_is_the_mean_likelihood_over_the_prior_on_a_fine_grid(t, n):
    effects = np.concatenate([np.linspace(1e-6, 20, 8_000), np.geomspace(20.01, 1e4, 4_000)])
    prior = 2 * stats.cauchy.pdf(effects, scale=math.sqrt(0.5))
    likelihood = np.nan_to_num(stats.nct.pdf(t, n - 1, effects * math.sqrt(n)))
    expected = np.trapezoid(likelihood * prior, effects) / stats.t.pdf(t, n - 1)
    assert jzs_one_sided(t, n) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("mean", "error"), [(0.02, 0.01), (-0.02, 0.01), (0.0, 0.01), (0.3, 0.01)])
def test_the_alternative_to_positive_is_an_even_mix_of_zero_and_negative(mean, error):
    t, effect = mean / error, from_error(mean, error, 5, 6)
    expected = jzs_one_sided(t, 6, 5) / ((1 + jzs_one_sided(-t, 6, 5)) / 2)
    assert bayes_factor_positive(effect) == pytest.approx(min(1e4, max(1e-4, expected)))


def test_bayes_factors_are_limited_to_ten_thousand():
    sure = from_error(10.0, 0.01, 30, 31)
    assert bayes_factor_positive(sure) == 1e4
    assert bayes_factor_positive(from_error(-10.0, 0.01, 30, 31)) == 1e-4
    assert bayes_factor_within(from_error(0.0, 1e-5, 30, 31), 0.1) == 1e4
    assert bayes_factor_within(sure, 0.1) == 1e-4


def test_equal_differences_get_a_thousandth_of_their_mean_as_error():
    for mean, n in ((0.2, 3), (-0.5, 4)):
        error = abs(mean) * 1e-3 / math.sqrt(n)
        t = max(-60.0, min(60.0, mean / error))
        expected = jzs_one_sided(t, n) / (0.5 + 0.5 * jzs_one_sided(-t, n))
        assert bayes_factor_positive(paired([mean] * n)) == pytest.approx(min(1e4, max(1e-4, expected)), rel=1e-3)
    assert bayes_factor_positive(paired([0.0] * 4)) == pytest.approx(
        jzs_one_sided(0.0, 4) / (0.5 + 0.5 * jzs_one_sided(0.0, 4))
    )
