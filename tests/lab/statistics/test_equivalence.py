"""Two one-sided tests against a published example and another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from adapterlab.lab.statistics import equivalence, paired
from tests.lab.statistics.published import SLEEP


def test_sleep_is_the_toster_packages_example():
    """TOSTER's introduction, `t_TOST(extra ~ group, data = sleep, paired = TRUE, eqb = 0.5)`: t(9) = -2.8, p = 0.989."""
    assert equivalence(paired(SLEEP), 0.5) == pytest.approx(0.989, abs=5e-4)


@pytest.mark.parametrize("within", [0.1, 1.0, 2.5])
def test_it_agrees_with_statsmodels(within):
    data = np.random.default_rng(0).normal(0.3, 1, 12)
    expected, *_ = DescrStatsW(data).ttost_mean(-within, within)
    assert equivalence(paired(data), within) == pytest.approx(expected)


def test_at_the_margin_itself_it_errs_as_often_as_it_says():
    rng = np.random.default_rng(1)
    called = [equivalence(paired(rng.normal(0.5, 0.1, 4)), 0.5) < 0.05 for _ in range(2000)]
    assert 0.035 < np.mean(called) < 0.065


def test_without_an_error_nothing_is_the_same_but_what_is():
    assert equivalence(paired([0.0]), 1.0) == 1
    assert equivalence(paired([]), 1.0) == 1
    assert equivalence(paired([0.0, 0.0]), 0.1) == 0
    assert equivalence(paired([0.2, 0.2]), 0.1) == 1
