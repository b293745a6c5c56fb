"""Concordance against a published example, and ranks under resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adapterlab.lab.statistics import kendall_w, rank_stability
from tests.lab.statistics.published import ANXIETY


def test_concordance_of_the_anxiety_ratings_is_that_of_the_irr_package():
    """R's `irr::kendall(anxiety, TRUE)`: Wt = 0.54, chi-squared(19) = 30.8, p = 0.0429."""
    w, p = kendall_w(ANXIETY)
    assert w == pytest.approx(0.54, abs=0.005)
    assert w * 3 * 19 == pytest.approx(30.8, abs=0.05)
    assert p == pytest.approx(0.0429, abs=5e-5)


def test_one_order_everywhere_is_one_and_too_little_is_unknown():
    assert kendall_w([[1, 2, 3], [10, 20, 30]])[0] == pytest.approx(1)
    assert math.isnan(kendall_w([[1, 2, 3]])[0])
    assert math.isnan(kendall_w([[1, 2], [1, 2]])[0])
    assert math.isnan(kendall_w([[1, 1, 1], [2, 2, 2]])[0])


def scores(means: dict[str, float], noise: float, shared: float = 0.0):
    rng = np.random.default_rng(0)
    keys = [(task, seed) for task in ("a", "b") for seed in (1, 2, 3)]
    both = {key: rng.normal(0, shared) if shared else 0.0 for key in keys}
    return {name: {key: mean + both[key] + rng.normal(0, noise) for key in keys} for name, mean in means.items()}


def test_a_clear_order_stays_and_what_a_seed_does_to_all_does_not_stir_it():
    found = rank_stability(scores({"one": 3, "two": 2, "three": 1}, 0.05, shared=5))
    assert [(r.first, r.low, r.high) for r in found.values()] == [(1, 1, 1), (0, 2, 2), (0, 3, 3)]


def test_the_same_twice_shares_the_first_place():
    found = rank_stability(scores({"one": 1, "two": 1}, 0.0))
    assert [r.first for r in found.values()] == [0.5, 0.5]
    assert [r.mean for r in found.values()] == [1.5, 1.5]


def test_what_is_uncertain_ranks_uncertainly():
    found = rank_stability(scores({"one": 1, "two": 1.01, "three": 0}, 0.1))
    assert 0 < found["one"].first < 1
    assert found["one"].low < found["one"].high
    assert found["three"].low == 3
    assert sum(r.first for r in found.values()) == pytest.approx(1)


def test_tasks_are_resampled_too():
    """Best by far on one task and worst on the other: which comes first hangs on the tasks drawn."""
    data = {"one": {("a", 1): 2.0, ("b", 1): 0.0}, "two": {("a", 1): 0.9, ("b", 1): 0.9}}
    assert 0.6 < rank_stability(data)["one"].first < 0.9


def test_with_no_runs_in_common_there_is_no_rank():
    assert rank_stability({"one": {("a", 1): 1.0}, "two": {("a", 2): 1.0}}) == {}
    assert rank_stability({}) == {}


def test_seeds_are_resampled_within_their_task():
    """On task `a` the first contestant is ahead with every seed, on `b` behind, so the ranks depend on the tasks only.

    Of two tasks drawn twice, both are `a` in a quarter of the resamples, and both `b` in a quarter. In the other half one's
    lead of 3 on `a` outweighs what it lacks on `b`.
    """
    data = {
        "one": {("a", 1): 3.0, ("a", 2): 3.1, ("b", 1): 0.0, ("b", 2): 0.1},
        "two": {("a", 1): 0.0, ("a", 2): 0.0, ("b", 1): 1.0, ("b", 2): 1.0},
    }
    found = rank_stability(data, resamples=4000)
    assert found["one"].first == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / 4000))
    assert found["one"].mean == pytest.approx(1.25, abs=0.04)
    assert (found["one"].low, found["one"].high) == (1, 2)


def test_pairs_of_task_and_seed_that_some_lack_are_left_out():
    data = {"one": {("a", 1): 2.0, ("b", 1): 0.0}, "two": {("a", 1): 1.0, ("c", 1): 5.0}}
    assert rank_stability(data)["one"].first == 1
