"""Bayes factors against another implementation, and at their ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterlab.lab.analysis.statistics import bayes_factor_positive, bayes_factor_within, jzs_one_sided, paired
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
