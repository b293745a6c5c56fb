"""Cross-validated predictions of learning rates, against ordinary least squares and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm

from tools import rate_validation
from tools.rate_validation import (
    Known,
    errors,
    line,
    of_both,
    of_curvature,
    of_method,
    of_moved_method,
    of_scale,
    reach,
    within_a_step,
)


@pytest.fixture
def contests() -> list[Known]:
    rng = np.random.default_rng(0)
    return [
        Known(method, task, -4 + 0.6 * scale + rng.normal(0, 0.3), float(scale))
        for method in "abcdef"
        for task, scale in zip(("x", "y", "z"), rng.uniform(-12, 0) + rng.uniform(-1, 1, 3), strict=True)
    ]


def test_the_line_is_that_of_weighted_least_squares_without_the_penalty(contests, monkeypatch):
    monkeypatch.setattr(rate_validation, "RIDGE", 0.0)
    some = [contest for contest in contests if (contest.method, contest.task) != ("a", "x")]
    x = sm.add_constant([contest.scale for contest in some])
    weights = [1 / 2 if contest.method == "a" else 1 / 3 for contest in some]
    expected = sm.WLS([contest.best for contest in some], x, weights=weights).fit().params
    assert line(some) == pytest.approx(tuple(expected))


def test_the_penalty_is_that_of_ridge_regression_by_an_added_row(contests):
    x = np.array([contest.scale for contest in contests])
    y = np.array([contest.best for contest in contests])
    rows = np.sqrt(1 / 3) * np.stack([x - x.mean(), y - y.mean()], 1)
    stacked = np.vstack([rows, [np.sqrt(rate_validation.RIDGE), 0.0]])
    slope = np.linalg.lstsq(stacked[:, :1], stacked[:, 1], rcond=None)[0][0]
    assert line(contests)[1] == pytest.approx(slope)


@pytest.mark.parametrize("predictor", [of_curvature, of_scale])
def test_the_contests_of_a_method_do_not_predict_each_other_by_curvature(contests, predictor):
    moved = [replace(c, best=c.best + 100) if c.method == "a" and c.task != "x" else c for c in contests]
    for table in (contests, moved):
        assert predictor(table[0], table[1:]) == pytest.approx(predictor(contests[0], contests[3:]))


def test_a_method_is_predicted_by_its_other_tasks_alone(contests):
    assert of_method(contests[0], contests[1:]) == pytest.approx((contests[1].best + contests[2].best) / 2)
    assert of_method(contests[0], contests[3:]) is None
    assert of_both(contests[0], contests[3:]) is None
    mean = (of_method(contests[0], contests[1:]) + of_curvature(contests[0], contests[1:])) / 2
    assert of_both(contests[0], contests[1:]) == pytest.approx(mean)


def test_a_difference_in_curvature_between_tasks_moves_a_method_as_it_moves_others():
    methods, tasks = {"a": 0, "b": 9, "c": -5}, {"x": 0.0, "y": 100.0}
    exact = [Known(m, t, start + 0.5 * s, s) for m, start in methods.items() for t, s in tasks.items()]
    assert errors(exact, of_moved_method) == pytest.approx([0.0] * 6, abs=0.05)


def test_shares_and_quantiles_of_errors():
    found = [-1.0, 0.5, 1.01, 0.0]
    assert within_a_step(found) == 0.75
    assert reach(found, 0.5) == pytest.approx(0.75)
    assert errors([Known("a", "x", -3.0, None)], of_curvature) == []
