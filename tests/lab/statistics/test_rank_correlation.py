"""Spearman's rank correlation is scipy's, and its interval holds the truth as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adapterlab.errors import AdapterlabError
from adapterlab.lab.statistics.rank_correlation import rank_correlation


def test_rho_and_p_are_scipys():
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)
    y = x + rng.normal(size=20)
    found, expected = rank_correlation(x.tolist(), y.tolist()), stats.spearmanr(x, y)
    assert (found.rho, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_interval_is_that_of_bonett_and_wright():
    # Ranks with one swap of neighbours: rho = 1 - 12 / (n (n^2 - 1)); here n = 4 and rho = 0.8.
    found = rank_correlation([1, 2, 3, 4], [1, 2, 4, 3])
    half = 1.959964 * math.sqrt((1 + 0.32) / (4 - 3))
    assert found.rho == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((math.tanh(1.0986123 - half), math.tanh(1.0986123 + half)))


def test_interval_covers_the_true_correlation_about_as_often_as_its_level():
    # Spearman's rho of a bivariate normal with correlation r is 6 / pi asin(r / 2) (Kruskal 1958).
    rng, r = np.random.default_rng(0), 0.6
    truth, covered = 6 / math.pi * math.asin(r / 2), 0
    for _ in range(400):
        x, y = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], size=25).T
        found = rank_correlation(x.tolist(), y.tolist())
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_perfect_agreement_has_a_one_sided_width():
    up = rank_correlation([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6])
    down = rank_correlation([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1])
    assert (up.rho, up.high) == (1, 1)
    assert 0 < up.low < 1
    assert (down.rho, down.low, down.high) == pytest.approx((-1, -1, -up.low))


def test_forgetting_that_follows_drift_is_found_whatever_the_scale():
    drift = [0.01, 0.02, 0.05, 0.1, 0.3]
    assert rank_correlation(drift, [math.exp(d) for d in drift]).rho == 1


def test_few_or_constant_values_say_nothing():
    assert (rank_correlation([1, 2, 3], [1, 3, 2]).low, rank_correlation([1, 2, 3], [1, 3, 2]).high) == (-1, 1)
    assert math.isnan(rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]).rho)


@pytest.mark.parametrize(("first", "second"), [([1.0], [1.0]), ([1.0, 2.0], [1.0])])
def test_unpaired_values_are_refused(first, second):
    with pytest.raises(AdapterlabError, match="at least two trials"):
        rank_correlation(first, second)


def test_values_of_diverged_trials_are_refused():
    with pytest.raises(AdapterlabError, match="finite"):
        rank_correlation([1.0, math.inf], [1.0, 2.0])
