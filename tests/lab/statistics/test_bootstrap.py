"""Resampling against the examples of Efron and Tibshirani, An Introduction to the Bootstrap (1993)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adapterlab.lab.statistics import bootstrap
from tests.lab.statistics.published import MICE, SPATIAL


def test_standard_error_of_the_mice():
    """Table 2.2: with endless resamples the standard error of the treated mice's mean is 23.36."""
    found = bootstrap(MICE, resamples=40_000)
    assert found.value == pytest.approx(86.86, abs=0.005)
    assert found.error == pytest.approx(23.36, abs=0.3)


def test_bca_interval_of_the_spatial_data():
    """Table 14.2: the variance of test A is 171.5, its 90 % interval by BCa 115.8 to 259.6, by percentiles 100.8 to 233.9.

    They drew 2000 resamples, so their ends are themselves uncertain by a few units.
    """
    found = bootstrap(SPATIAL, np.var, level=0.9, resamples=20_000)
    assert found.method == "BCa"
    assert found.value == pytest.approx(171.5, abs=0.05)
    assert (found.low, found.high) == pytest.approx((115.8, 259.6), abs=4)


def test_three_values_give_percentiles_which_are_their_ends():
    found = bootstrap([1.0, 2.0, 4.0])
    assert found.method == "percentile"
    assert (found.low, found.high) == (1, 4)


def test_three_values_cover_less_than_they_say_and_ten_nearly_what_they_say():
    rng = np.random.default_rng(0)

    def covered(n: int) -> float:
        found = [bootstrap(rng.normal(size=n), resamples=200) for _ in range(300)]
        return float(np.mean([f.low <= 0 <= f.high for f in found]))

    assert 0.68 < covered(3) < 0.83
    assert 0.85 < covered(10) < 0.96


def test_what_cannot_be_resampled_is_said_to_be_unknown():
    assert bootstrap([1.0]).method == "none"
    assert bootstrap([1.0]).high == math.inf
    assert math.isnan(bootstrap([]).value)
    assert bootstrap([2.0] * 6)[:3] == (2, 2, 2)


def test_two_values_give_their_ends_and_five_are_enough_for_bca():
    two = bootstrap([1.0, 2.0])
    assert (two.value, two.low, two.high, two.method) == (1.5, 1, 2, "percentile")
    assert two.error == pytest.approx(math.sqrt(0.5 / 4), rel=0.05)
    assert bootstrap([1.0, 2.0, 4.0, 7.0]).method == "percentile"
    assert bootstrap([1.0, 2.0, 4.0, 7.0, 9.0]).method == "BCa"


def test_a_single_value_has_no_interval_and_equal_ones_no_spread():
    assert bootstrap([1.0]) == (1.0, -math.inf, math.inf, math.inf, "none")
    assert bootstrap([2.0] * 6) == (2.0, 2.0, 2.0, 0.0, "percentile")
    assert bootstrap([2.0, 2.0]) == (2.0, 2.0, 2.0, 0.0, "percentile")


def test_the_interval_of_tied_values_is_finite():
    """The median stays the same whichever value is left out, so the acceleration of BCa is 0 / 0."""
    found = bootstrap([0.0, 1.0, 1.0, 1.0, 1.0, 1.0], np.median)
    assert found.method == "percentile"
    assert math.isfinite(found.low)
    assert found.low <= found.value <= found.high
