"""Each function against a published worked example, or another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterlab.lab.statistics import bayes_factor_positive, bayes_factor_within, holm, jzs_one_sided, paired

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Hours of sleep gained, drug 2 less drug 1: the data of Student (1908)."""


def test_paired_is_students_own_example():
    """R's `t.test(extra ~ group, data = sleep, paired = TRUE)`: t = 4.0621, p = 0.002833, interval 0.7001 to 2.4599."""
    result = paired(SLEEP)
    assert result.mean == pytest.approx(1.58)
    assert result.p == pytest.approx(0.002833, abs=1e-6)
    assert (result.low, result.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert result.real


def test_two_sided_bayes_factor_is_that_of_the_bayesfactor_package():
    """R's `ttestBF(sleep...)` with the default scale gives 17.25888 against no effect: the mean of the two sides."""
    t, n = stats.ttest_1samp(SLEEP, 0).statistic, len(SLEEP)
    assert (jzs_one_sided(t, n) + jzs_one_sided(-t, n)) / 2 == pytest.approx(17.25888, rel=1e-4)


def test_bayes_factor_falls_for_what_speaks_against():
    assert bayes_factor_positive(SLEEP) > 20
    assert bayes_factor_positive([-d for d in SLEEP]) < 1 / 5
    assert bayes_factor_positive([0.1, -0.1, 0.05, -0.05]) < 1


def test_a_single_pair_says_nothing():
    assert bayes_factor_positive([1.0]) == 1
    assert bayes_factor_within([1.0], 0.1) == 1
    assert not paired([1.0]).real


def test_differences_that_do_not_vary_do_not_break_it():
    assert bayes_factor_positive([0.2, 0.2, 0.2]) > 10
    assert 0.3 < bayes_factor_positive([0.0, 0.0, 0.0]) < 1
    assert paired([0.0, 0.0]).p == 1


def test_within_is_likely_when_the_mean_is_near_zero_for_sure():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.01, 20), rng.normal(1, 0.01, 20)
    assert bayes_factor_within(near, 0.1) > 100
    assert bayes_factor_within(far, 0.1) < 0.01


def test_within_is_undecided_when_nothing_is_known():
    assert bayes_factor_within([-50.0, 50.0], 0.01) == pytest.approx(1, abs=0.2)


def test_holm_is_his_own_procedure():
    """Smallest p times n, next times n - 1, never falling, at most one; R's `p.adjust(c(.01, .04, .03), "holm")`."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = [paired(rng.normal(0.3, 1, 6)) for _ in range(2000)]
    assert 0.93 < np.mean([c.low <= 0.3 <= c.high for c in covered]) < 0.97
