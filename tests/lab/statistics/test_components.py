"""Components of variance: Satterthwaite's degrees of freedom, and rows crossed with seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adapterlab.lab.statistics import Component, average, from_components, row_component


def test_two_samples_give_welchs_test():
    """The difference of two means with unequal variances is Welch's t-test, which scipy has."""
    a, b = np.array([27.5, 21.0, 19.0, 23.6, 17.0]), np.array([27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8])
    found = from_components(
        float(a.mean() - b.mean()),
        [Component(float(x.var(ddof=1)) / len(x), len(x) - 1) for x in (a, b)],
        n=len(a) + len(b),
    )
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert found.p == pytest.approx(welch.pvalue)
    assert found.df == pytest.approx(welch.df)
    interval = welch.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_a_component_of_zero_changes_nothing():
    parts = [Component(4e-6, 5.0)]
    assert from_components(0.1, [*parts, Component(0.0, 1.0)], 4) == from_components(0.1, parts, 4)


def test_without_any_variance_the_mean_is_exact():
    found = from_components(0.1, [Component(0.0, 4.0)], 4)
    assert (found.low, found.high, found.error) == (0.1, 0.1, 0.0)


def test_the_average_of_equal_means_has_a_smaller_error():
    one = [Component(4e-6, 4.0)]
    found = average([0.1, 0.3], [one, one], n=6)
    assert found.mean == pytest.approx(0.2)
    assert found.error == pytest.approx((4e-6 / 2) ** 0.5)
    assert found.df == pytest.approx(8.0)


@pytest.mark.parametrize("rows_sd", [0.0, 0.02])
def test_the_component_of_rows_is_unbiased(rows_sd):
    """Two crossed random effects: what other rows would change, beside what other seeds would."""
    rng, found = np.random.default_rng(1), []
    for _ in range(2000):
        table = rng.normal(0, 0.01, size=(3, 1)) + rng.normal(0, rows_sd, size=(1, 24)) + rng.normal(0, 0.03, (3, 24))
        found.append(row_component(table).variance)
    truth = rows_sd**2 / 24
    assert np.mean(found) == pytest.approx(truth, rel=0.1) if rows_sd else np.mean(found) < 0.4 * 0.03**2 / (3 * 24)
    assert row_component(np.zeros((3, 24))).df == 23


def test_one_row_has_no_component():
    assert row_component(np.ones((3, 1))).variance == 0


@pytest.mark.parametrize("rows_sd", [0.005, 0.03])
def test_an_interval_over_seeds_and_rows_covers_as_often_as_it_says(rows_sd):
    rng, covered = np.random.default_rng(2), []
    for _ in range(2000):
        table = rng.normal(0, 0.004, size=(5, 1)) + rng.normal(0, rows_sd, size=(1, 32)) + rng.normal(0, 0.01, (5, 32))
        means = table.mean(axis=1)
        parts = [Component(float(means.var(ddof=1)) / 5, 4), row_component(table)]
        interval = from_components(float(means.mean()), parts, 5)
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.93 < np.mean(covered) < 0.975


def test_a_variance_that_is_known_gives_a_normal_interval():
    """A component of infinitely many degrees of freedom, beside others of no variance: the interval is that of z."""
    found = from_components(0.1, [Component(0.04, math.inf), Component(0.0, 5.0)], 1)
    assert (found.low, found.high) == pytest.approx((0.1 - 1.959964 * 0.2, 0.1 + 1.959964 * 0.2), abs=1e-6)
    assert math.isfinite(found.df / (found.df - 2))
