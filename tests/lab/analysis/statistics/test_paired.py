"""Student's interval, the mean over tasks, and Holm's correction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from adapterlab.lab.analysis.statistics import Paired, holm, paired, stratified
from adapterlab.lab.analysis.statistics.paired import from_error
from tests.lab.analysis.statistics.published import SLEEP


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


def test_over_one_task_it_is_students():
    one, students = stratified({"sleep": SLEEP}), paired(SLEEP)
    assert (one.mean, one.low, one.high, one.p) == pytest.approx(
        (students.mean, students.low, students.high, students.p)
    )


def test_over_two_tasks_the_error_is_welchs():
    """The mean of two tasks has half the error of Welch's difference and its degrees of freedom: R's `t.test` on
    `extra ~ group` of `sleep`, unpaired: difference -1.58, 17.776 degrees of freedom, interval -3.3654832 to 0.2054832.
    """
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = stratified({"one": one, "two": [-x for x in two]})
    assert found.df == pytest.approx(17.776, abs=1e-3)
    assert (2 * found.low, 2 * found.high) == pytest.approx((-3.3654832, 0.2054832), abs=1e-6)
    assert found.p == pytest.approx(0.07939, abs=1e-5)


def test_what_tasks_differ_by_does_not_widen_what_is_said_of_them():
    rng = np.random.default_rng(2)
    covered = [stratified({"a": rng.normal(1, 0.1, 3), "b": rng.normal(-1, 0.1, 3)}) for _ in range(2000)]
    assert 0.94 < np.mean([c.low <= 0 <= c.high for c in covered]) < 0.98
    assert np.mean([c.high - c.low for c in covered]) < 0.4


def test_luck_that_seeds_share_is_part_of_the_error():
    rng = np.random.default_rng(3)
    found = [stratified({"a": rng.normal(rng.normal(0, 0.2), 0.1, 4)}, {"a": 0.04}) for _ in range(2000)]
    assert np.mean([c.low <= 0 <= c.high for c in found]) > 0.95
    assert stratified({"a": [1.0, 2.0]}, {"a": 0.25}).error == pytest.approx(math.sqrt(0.5))


def test_a_task_with_one_pair_borrows_the_spread_of_the_others():
    found = stratified({"a": [1.0, 2.0, 3.0], "b": [4.0]})
    assert found.mean == 3
    assert found.error == pytest.approx(math.sqrt(1 / 3 + 1) / 2)
    assert stratified({"a": [1.0], "b": [2.0]}).p == 1
    assert math.isnan(stratified({}).mean)


def test_the_p_value_and_the_interval_agree():
    assert paired(SLEEP).p == pytest.approx(stats.ttest_1samp(SLEEP, 0).pvalue)


def satterthwaite(*parts: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of variances, each with its own."""
    return sum(v for v, _ in parts) ** 2 / sum(v**2 / df for v, df in parts)


def test_degrees_of_freedom_are_satterthwaites_over_seeds_and_selection():
    """The variance of three seeds 0, 1, 2 is 1, of a mean of them 1/3 with 2 degrees; the selection's has 5."""
    groups = {"a": [0.0, 1.0, 2.0], "b": [0.0, 2.0, 4.0]}
    found = stratified(groups, {"a": 0.5, "b": 0.25})
    parts = [(1 / 3, 2), (4 / 3, 2)]
    assert found.error == pytest.approx(math.sqrt(1 / 3 + 4 / 3 + 0.75) / 2)
    assert found.df == pytest.approx(min(satterthwaite(*parts), satterthwaite(*parts, (0.5, 5), (0.25, 5))))
    large = stratified(groups, {"a": 50.0})
    assert (
        large.df
        == pytest.approx(satterthwaite(*parts))
        == pytest.approx(min(satterthwaite(*parts), satterthwaite(*parts, (50.0, 5))))
    )
    assert stratified(groups).df == pytest.approx(satterthwaite(*parts))
    assert found.n == 6


def test_a_selection_that_outweighs_all_seeds_has_five_degrees():
    many = {"a": list(range(40))}
    variance = np.var(many["a"], ddof=1) / 40
    found = stratified(many, {"a": 1e6})
    assert found.df == pytest.approx(satterthwaite((variance, 39), (1e6, 5)), rel=1e-6)
    assert found.df == pytest.approx(5, abs=0.01)
    still = stratified({"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0]}, {"a": 0.25})
    assert (still.df, still.error) == (5, pytest.approx(0.25))
    assert stratified({"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0]}).df == 3


def test_an_unknown_error_gives_an_infinite_interval():
    for effect, n in ((paired([0.5]), 1), (stratified({"a": [0.5], "b": [1.5]}), 2)):
        assert (effect.low, effect.high, effect.p, effect.n) == (-math.inf, math.inf, 1.0, n)
        assert (effect.error, effect.df) == (math.inf, 0)
    assert paired([]).n == 0
    assert math.isnan(paired([]).mean)
    empty = stratified({"a": []})
    assert (math.isnan(empty.mean), empty.n) == (True, 0)
    assert from_error(1.0, 0.1, 0, 5) == from_error(1.0, math.inf, 5, 5) == Paired(1.0, -math.inf, math.inf, 1.0, 5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_level_is_that_of_the_interval(level):
    low, high = stats.ttest_1samp(SLEEP, 0).confidence_interval(level)
    for found in (paired(SLEEP, level), stratified({"sleep": SLEEP}, level=level)):
        assert (found.low, found.high) == pytest.approx((low, high))


def test_errors_as_small_as_rounding_count_as_zero():
    found = from_error(1.0, 1e-9, 4, 5)
    assert (found.low, found.high, found.p, found.error, found.df) == (1.0, 1.0, 0.0, 0.0, 4)
    assert from_error(1.0, 1.1e-9, 4, 5).error == 1.1e-9
    assert from_error(-1.0, 1e-10, 4, 5).real
