"""E-values against their closed form, and their error when one looks after every seed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from adapterlab.lab.statistics import e_holm, e_value, from_error, sequence_interval

SCALE = 0.01


def under_a_cauchy(mean, error, scale=SCALE):
    """Density of an estimate whose true value is Cauchy, by numerical integration."""
    limits = {"points": [mean, 0.0], "limit": 500}
    return quad(lambda x: stats.norm.pdf(mean, x, error) * stats.cauchy.pdf(x, 0, scale), -1, 1, **limits)[0]


@pytest.mark.parametrize("error", [0.001, 0.004, 0.02])
@pytest.mark.parametrize("mean", [0.0, 0.003, -0.012])
def test_with_a_known_error_it_is_the_ratio_of_two_densities(mean, error):
    found = e_value(from_error(mean, error, 1e7, 8), SCALE)
    assert found == pytest.approx(under_a_cauchy(mean, error) / stats.norm.pdf(mean, 0, error), rel=0.03)


def test_with_an_estimated_error_it_is_an_integral_over_it():
    """Against numerical integration over the scaled inverse chi-squared distribution."""
    mean, error, df = 0.01, 0.003, 6
    at = np.linspace(0.02, 60, 3000)
    weights, errors = stats.chi2.pdf(at, df), error * np.sqrt(df / at)
    alternative = sum(w * under_a_cauchy(mean, e) for w, e in zip(weights[::30], errors[::30], strict=True))
    null = sum(w * stats.norm.pdf(mean, 0, e) for w, e in zip(weights[::30], errors[::30], strict=True))
    assert e_value(from_error(mean, error, df, 4), SCALE) == pytest.approx(alternative / null, rel=0.05)
    assert e_value(from_error(mean, error, df, 4), SCALE) < e_value(from_error(mean, error, 60, 4), SCALE)


@pytest.mark.parametrize("df", [2, 20])
def test_a_difference_far_beyond_those_expected_is_evidence_too(df):
    values = [e_value(from_error(20 * SCALE * k, 0.001, df, 2), SCALE) for k in (0.05, 0.2, 1.0)]
    assert sorted(values) == values
    assert values[-1] > 100


def test_an_unknown_error_is_no_evidence():
    unknown = from_error(0.01, math.inf, 0, 1)
    assert e_value(unknown, SCALE) == 1
    assert sequence_interval(unknown, SCALE) == (-math.inf, math.inf)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_holds_the_differences_that_are_not_rejected(level):
    effect = from_error(0.012, 0.003, 14, 6)
    low, high = sequence_interval(effect, SCALE, level)
    assert (low + high) / 2 == pytest.approx(effect.mean)
    for limit in (low, high):
        assert e_value(effect, SCALE, null=limit) == pytest.approx(1 / (1 - level), rel=1e-6)
    assert low < effect.low
    assert high > effect.high


def test_looking_after_every_seed_keeps_the_error_below_its_level():
    """5,000 series without a difference: a fixed test that is looked at after every seed is wrong far too often."""
    rng = np.random.default_rng(0)
    sums = rng.normal(0, 0.004, (5_000, 60)).cumsum(axis=1)
    n = np.arange(1, 61)
    means, errors = sums / n, 0.004 / np.sqrt(n)
    variances = SCALE**2 * stats.invgamma.ppf((np.arange(16) + 0.5) / 16, 0.5, scale=0.5)
    mixture = np.mean([stats.norm.pdf(means, 0, np.sqrt(errors**2 + v)) for v in variances], axis=0)
    ratios = mixture / stats.norm.pdf(means, 0, errors)
    ever = (ratios >= 20).any(axis=1).mean()
    assert 0.005 < ever < 0.05
    assert (np.abs(means / errors) > 1.96).any(axis=1).mean() > 0.3
    for i, j in itertools.product(range(3), (1, 9, 59)):  # the function itself, on some of them
        assert e_value(from_error(means[i, j], errors[j], 1e7, 1), SCALE) == pytest.approx(ratios[i, j], rel=0.05)


def test_several_tests_are_corrected_as_by_closed_testing():
    """The definition: the least arithmetic mean over all sets of tests that hold the one asked for."""
    rng = np.random.default_rng(1)
    values = dict(enumerate(np.exp(rng.normal(1, 2, 7))))
    for key, adjusted in e_holm(values).items():
        others = [other for other in values if other != key]
        sets = itertools.chain.from_iterable(itertools.combinations(others, k) for k in range(len(others) + 1))
        assert adjusted == pytest.approx(min(np.mean([values[key], *(values[o] for o in chosen)]) for chosen in sets))
    assert e_holm({}) == {}
