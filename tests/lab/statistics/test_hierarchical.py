"""The summary over tasks against metafor's results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adapterlab.lab.statistics import across_tasks, paired
from adapterlab.lab.statistics.paired import from_error
from tests.lab.statistics.published import BCG


def studies(effects, variances):
    return {
        str(i): from_error(m, math.sqrt(v), 30, 31) for i, (m, v) in enumerate(zip(effects, variances, strict=True))
    }


def test_kackers_example_is_that_of_metafor():
    """R's `metafor::rma(y, v, method = "PM")` on Kacker (2004), as statsmodels' own tests record it."""
    effects = [61, 61.4, 62.21, 62.3, 62.34, 62.6, 62.7, 62.84, 65.9]
    variances = [0.2025, 1.21, 0.09, 0.2025, 0.3844, 0.5625, 0.0676, 0.0225, 1.8225]
    found = across_tasks(studies(effects, variances))
    assert found.overall.mean == pytest.approx(62.4076199113286, abs=1e-4)
    assert found.overall.error == pytest.approx(0.338030602684471, abs=1e-4)
    assert found.between**2 == pytest.approx(0.705395309224248, abs=1e-3)


def test_the_vaccine_trials_are_those_of_metafor():
    """Log risk ratios of `dat.bcg`: metafor's Paule-Mandel estimate is -0.7150 with tau^2 0.3181; Knapp and Hartung's
    interval of all its estimators starts at -1.11 and ends at -0.32 (REML: -1.1082 to -0.3208).
    """
    a, b, c, d = BCG.T
    found = across_tasks(studies(np.log(a / (a + b)) - np.log(c / (c + d)), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)))
    assert found.overall.mean == pytest.approx(-0.7150, abs=1e-4)
    assert found.between**2 == pytest.approx(0.3181, abs=1e-4)
    assert (found.overall.low, found.overall.high) == pytest.approx((-1.1082, -0.3208), abs=2e-3)
    assert found.low_next < found.overall.low
    assert found.high_next > found.overall.high


def test_the_size_of_the_numbers_does_not_matter():
    found = across_tasks(studies([1e-4, 3e-4, 2e-4], [1e-10] * 3))
    large = across_tasks(studies([1, 3, 2], [1e-2] * 3))
    assert found.between == pytest.approx(large.between * 1e-4, rel=1e-3)
    assert found.overall.low == pytest.approx(large.overall.low * 1e-4, rel=1e-3)


def test_two_tasks_say_little_of_others():
    found = across_tasks({"a": paired([1.0, 1.1, 0.9]), "b": paired([2.0, 2.1, 1.9])})
    assert found.overall.df == 1
    assert found.overall.mean == pytest.approx(1.5)
    assert found.overall.low < 0 < found.overall.high


def test_one_task_says_nothing_of_others():
    found = across_tasks({"a": paired([1.0, 1.1, 0.9])})
    assert found.overall.mean == 1
    assert not found.overall.real
    assert math.isnan(found.between)
    assert math.isnan(across_tasks({}).overall.mean)


def test_tasks_that_agree_have_no_spread_and_errors_of_zero_do_not_break_it():
    assert across_tasks(studies([1.0, 1.0, 1.0], [0.01] * 3)).between == 0
    assert across_tasks({"a": paired([0.0, 0.0]), "b": paired([0.0, 0.0])}).overall.mean == 0


def test_intervals_cover_the_effect_on_tasks_like_these():
    rng = np.random.default_rng(0)

    def covered() -> bool:
        found = across_tasks({str(t): paired(rng.normal(rng.normal(0.5, 0.3), 0.2, 3)) for t in range(5)}).overall
        return found.low <= 0.5 <= found.high

    assert np.mean([covered() for _ in range(500)]) > 0.93


def test_the_interval_for_another_task_is_that_of_higgins_thompson_and_spiegelhalter():
    """The mean give or take t with two degrees less than tasks, times the root of both variances (2009, equation 12)."""
    a, b, c, d = BCG.T
    found = across_tasks(studies(np.log(a / (a + b)) - np.log(c / (c + d)), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)))
    reach = stats.t.ppf(0.975, 13 - 2) * math.sqrt(found.overall.error**2 + found.between**2)
    assert (found.low_next, found.high_next) == pytest.approx((found.overall.mean - reach, found.overall.mean + reach))
    assert found.overall.df == 12
    half = across_tasks(studies([1, 3, 2], [0.1] * 3), level=0.5)
    reach = stats.t.ppf(0.75, 1) * math.hypot(half.overall.error, half.between)
    assert half.high_next - half.overall.mean == pytest.approx(reach)
    assert half.overall.high - half.overall.mean == pytest.approx(stats.t.ppf(0.75, 2) * half.overall.error)


def test_one_task_gives_no_bound_for_another():
    found = across_tasks({"a": paired([1.0, 1.1, 0.9]), "b": paired([3.0])})
    assert (found.low_next, found.high_next) == (-math.inf, math.inf)
    assert (found.overall.low, found.overall.high, found.overall.p) == (-math.inf, math.inf, 1.0)
    assert (found.overall.mean, found.overall.n) == (1.0, 1)
    assert set(found.tasks) == {"a", "b"}


def test_an_error_of_zero_does_not_weigh_infinitely():
    exact = from_error(1.0, 0.0, 5, 6)
    found = across_tasks({"a": exact, "b": from_error(2.0, 0.5, 5, 6), "c": from_error(1.5, 0.5, 5, 6)})
    assert math.isfinite(found.overall.error)
    assert 1.0 <= found.overall.mean <= 2.0
