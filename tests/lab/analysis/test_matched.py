"""Forgetting at equal learning, over paths that the test makes up."""

from __future__ import annotations

import dataclasses

import pytest

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.matched import Matched, at_gain, difference_at_equal_gain
from tests.lab.made_up import played

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def path(gain: float, forgotten: float, curvature: float = 0.0):
    """A path whose gain has a maximum beyond its end and whose forgetting grows with the square of the strength."""
    return [(s, gain * s * (1 + curvature * (1 - s)), forgotten * s**2) for s in STRENGTHS]


@pytest.mark.parametrize("share", [0.1, 0.37, 0.9, 1.0])
def test_forgetting_at_a_gain_is_that_of_the_strength_with_that_gain(share):
    assert at_gain(path(0.06, 0.05), 0.06 * share) == pytest.approx(0.05 * share**2)
    bent = path(0.06, 0.05, curvature=0.4)
    assert at_gain(bent, 0.06 * share * (1 + 0.4 * (1 - share))) == pytest.approx(0.05 * share**2)


def test_a_gain_that_is_reached_twice_is_taken_where_it_is_first_reached():
    peaked = [(s, 0.06 * (2 * s - 1.5 * s**2), 0.05 * s**2) for s in STRENGTHS]
    assert at_gain(peaked, peaked[-1][1]) == pytest.approx(0.05 / 9)


def test_the_one_that_learned_more_is_taken_back():
    """At a gain of 0.03 the first path has forgotten a quarter of 0.08."""
    large, small = path(0.06, 0.08), path(0.03, 0.03)
    assert difference_at_equal_gain(large, small) == pytest.approx(0.03 - 0.02)
    assert difference_at_equal_gain(small, large) == pytest.approx(-0.01)
    assert difference_at_equal_gain(path(-0.01, 0.01), small) is None


def test_the_sign_of_a_difference_may_turn_at_equal_learning():
    results = played(
        ("lora", "oft"),
        gains={"lora": 0.2, "oft": 0.1},
        forgetting={"lora": 0.06, "oft": 0.04},
        best={"lora": 2.0, "oft": 2.0},
        noise=0.002,
    )
    found = Matched.of(Effects.of(results)).compare("oft", "lora")
    assert found.n == 6
    assert found.high < 0
    assert Matched.of(Effects.of(results)).compare("lora", "oft").mean == pytest.approx(-found.mean)
    assert set(Matched.of(Effects.of(results)).by_task("oft", "lora")) == {"prose", "restyle"}


def test_a_contestant_without_a_path_is_not_compared():
    results = played(("lora", "oft"), gains={"lora": 0.2, "oft": 0.1}, best={"lora": 2.0})
    found = Matched.of(Effects.of(results)).compare("oft", "lora")
    assert (found.n, found.p) == (0, 1.0)


def test_one_seed_leaves_the_error_unknown():
    results = played(("lora", "oft"), gains={"lora": 0.2, "oft": 0.1}, best={"lora": 2.0, "oft": 2.0})
    for task in results.study.tasks:
        contest = results.contests["oft", task]
        contest.reported = {1: contest.reported[1]}
    found = Matched.of(Effects.of(results)).compare("oft", "lora")
    assert (found.n, found.p) == (2, 1.0)


def test_runs_that_diverged_are_left_out():
    results = played(("lora", "oft"), gains={"lora": 0.2, "oft": 0.1}, best={"lora": 2.0, "oft": 2.0}, noise=0.001)
    for task in results.study.tasks:
        trial, outcome = results.contests["oft", task].reported[2]
        results.contests["oft", task].reported[2] = trial, dataclasses.replace(outcome, status="diverged", scores={})
    assert Matched.of(Effects.of(results)).compare("oft", "lora").n == 4
