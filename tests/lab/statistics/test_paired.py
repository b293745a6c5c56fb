"""Student's interval, the mean over tasks, and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from adapterlab.lab.statistics import holm, paired
from adapterlab.lab.statistics.paired import from_error
from tests.lab.statistics.published import SLEEP


def test_paired_is_students_own_example():
    """R's `t.test(extra ~ group, data = sleep, paired = TRUE)`: t = 4.0621, p = 0.002833, interval 0.7001 to 2.4599."""
    result = paired(SLEEP)
    assert result.mean == pytest.approx(1.58)
    assert result.p == pytest.approx(0.002833, abs=1e-6)
    assert (result.low, result.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert result.real


def test_a_single_pair_says_nothing():
    assert not paired([1.0]).real
    assert paired([1.0]).p == 1


def test_differences_of_exactly_nothing_are_no_difference():
    nothing = paired([0.0, 0.0])
    assert (nothing.mean, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)
    assert not nothing.real


def test_differences_that_never_vary_are_sure():
    assert paired([0.1, 0.1, 0.1]).p == 0


def test_holm_is_his_own_procedure():
    """Smallest p times n, next times n - 1, never falling, at most one; R's `p.adjust(c(.01, .04, .03), "holm")`."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_statsmodels(seed):
    p = np.random.default_rng(seed).uniform(size=9) ** 3
    expected = multipletests(p, method="holm")[1]
    assert list(holm(dict(enumerate(p))).values()) == pytest.approx(list(expected))


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = [paired(rng.normal(0.3, 1, 6)) for _ in range(2000)]
    assert 0.93 < np.mean([c.low <= 0.3 <= c.high for c in covered]) < 0.97


def test_the_p_value_and_the_interval_agree():
    assert paired(SLEEP).p == pytest.approx(stats.ttest_1samp(SLEEP, 0).pvalue)


def test_errors_as_small_as_rounding_count_as_zero():
    found = from_error(1.0, 1e-9, 4, 5)
    assert (found.low, found.high, found.p, found.error, found.df) == (1.0, 1.0, 0.0, 0.0, 4)
    assert from_error(1.0, 1.1e-9, 4, 5).error == 1.1e-9
    assert from_error(-1.0, 1e-10, 4, 5).real
