"""The mixed model against statsmodels, against closed forms, and its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

from adapterlab.lab.statistics.mixed import REST, fit_mixed, spread


def layout(tasks: int, cells: int) -> tuple[np.ndarray, list[int], np.ndarray]:
    """A slope on the cells of each task, the last of which is at zero."""
    x = np.arange(1 - cells, 1, dtype=float)
    fixed = np.array([[1.0, value] for _ in range(tasks) for value in x])
    return fixed if cells > 1 else fixed[:, :1], [task for task in range(tasks) for _ in x], x


def test_without_known_errors_it_is_the_mixed_model_of_statsmodels():
    rng = np.random.default_rng(3)
    fixed, tasks, _ = layout(6, 4)
    y = fixed @ [1.0, 0.3] + rng.normal(0, 0.8, 6)[tasks] + rng.normal(0, 0.5, len(tasks))
    ours, theirs = fit_mixed(y, np.zeros(len(y)), fixed, {"task": tasks}), MixedLM(y, fixed, tasks).fit(reml=True)
    assert ours.coefficients == pytest.approx(theirs.fe_params, abs=1e-5)
    assert ours.variances["task"] == pytest.approx(float(theirs.cov_re[0, 0]), rel=1e-3)
    assert ours.variances[REST] == pytest.approx(theirs.scale, rel=1e-3)
    errors = [ours.estimate(row, 1e6).error for row in np.eye(2)]
    assert errors == pytest.approx(theirs.bse_fe, rel=1e-3)


def test_crossed_groups_are_those_of_statsmodels():
    rng = np.random.default_rng(5)
    tasks, models = np.repeat(np.arange(5), 12), np.tile(np.repeat(np.arange(4), 3), 5)
    y = 2 + rng.normal(0, 1.0, 5)[tasks] + rng.normal(0, 0.7, 4)[models] + rng.normal(0, 0.4, 60)
    ours = fit_mixed(y, np.zeros(60), np.ones((60, 1)), {"task": tasks.tolist(), "model": models.tolist()})
    parts = [[np.eye(5)[tasks]], [np.eye(4)[models]]]
    spec = VCSpec(["task", "model"], [[["t"] * 5], [["m"] * 4]], parts)
    theirs = MixedLM(y, np.ones((60, 1)), np.zeros(60), exog_vc=spec).fit(reml=True)
    assert sorted([ours.variances["task"], ours.variances["model"]]) == pytest.approx(sorted(theirs.vcomp), rel=0.02)


def test_known_errors_of_one_value_a_task_give_the_closed_form():
    y, error = np.array([0.01, 0.03, 0.05, 0.02]), 0.004
    fit = fit_mixed(y, np.full(4, error**2), np.ones((4, 1)), {"task": list(range(4))})
    between = y.var(ddof=1) - error**2
    assert fit.variances["task"] == pytest.approx(between, rel=1e-4)
    fresh = fit.predict(np.ones(1), known_df=50)
    assert fresh.mean == pytest.approx(y.mean())
    assert fresh.error == pytest.approx(math.sqrt(between * 1.25 + error**2 / 4), rel=1e-4)
    assert fresh.df == 3
    reach = stats.t.ppf(0.975, 3) * fresh.error
    assert (fresh.low, fresh.high) == pytest.approx((fresh.mean - reach, fresh.mean + reach), rel=1e-4)


def test_a_single_group_has_no_spread_and_a_slope_does_not_rest_on_groups():
    fixed, tasks, x = layout(1, 5)
    y = 0.5 + 0.2 * x + np.array([0.01, -0.02, 0.01, 0.01, -0.01])
    fit = fit_mixed(y, np.full(5, 1e-4), fixed, {"task": tasks})
    assert math.isnan(spread(fit, "task"))
    fixed, tasks, x = layout(2, 5)
    y = np.concatenate([y, y + 3.0])
    fit = fit_mixed(y, np.full(10, 1e-4), fixed, {"task": tasks})
    assert fit.estimate(np.array([0.0, 1.0]), 40).df > 1
    assert fit.estimate(np.array([1.0, 0.0]), 40).df == 1


def misses(tasks: int, between: float, studies: int) -> float:
    """Share of simulated studies whose prediction interval misses the effect on a fresh task."""
    rng, missed = np.random.default_rng(11), 0
    fixed, labels, _ = layout(tasks, 3)
    for _ in range(studies):
        y = fixed @ [0.01, 0.002] + rng.normal(0, between, tasks)[labels] + rng.normal(0, 0.002, len(labels))
        fresh = fit_mixed(y, np.full(len(y), 0.002**2), fixed, {"task": labels}).predict(np.array([1.0, 0.0]), 20)
        missed += not fresh.low <= 0.01 + rng.normal(0, between) <= fresh.high
    return missed / studies


def test_the_prediction_misses_a_fresh_task_in_a_twentieth_of_studies():
    assert 0.025 <= misses(tasks=5, between=0.01, studies=150) <= 0.08


@pytest.mark.soak
@pytest.mark.parametrize(
    ("tasks", "between", "least", "most"), [(3, 0.02, 0.03, 0.07), (5, 0.01, 0.03, 0.07), (5, 0, 0, 0.05)]
)
def test_the_prediction_misses_a_fresh_task_in_a_twentieth_of_many_studies(tasks, between, least, most):
    assert least <= misses(tasks, between, studies=1500) <= most
