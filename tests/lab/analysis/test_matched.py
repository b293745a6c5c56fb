"""Forgetting at equal learning, and what is kept out-of-domain, over paths that the test makes up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.matched import Along, Matched, Path, difference_at_equal_gain
from adapterlab.lab.analysis.selection import NO_SELECTION, Selection
from adapterlab.tasks.base import Part
from tests.lab.made_up import played

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def path(gain: float, forgotten: float, curvature: float = 0.0):
    """A path whose gain has a maximum beyond its end and whose forgetting grows with the square of the strength."""
    return Path(tuple((s, gain * s * (1 + curvature * (1 - s)), forgotten * s**2) for s in STRENGTHS))


@pytest.mark.parametrize("share", [0.1, 0.37, 0.9, 1.0])
def test_forgetting_at_a_gain_is_that_of_the_strength_with_that_gain(share):
    assert path(0.06, 0.05).at_gain(0.06 * share) == pytest.approx(0.05 * share**2)
    bent = path(0.06, 0.05, curvature=0.4)
    assert bent.at_gain(0.06 * share * (1 + 0.4 * (1 - share))) == pytest.approx(0.05 * share**2)


def test_a_gain_that_is_reached_twice_is_taken_where_it_is_first_reached():
    peaked = Path(tuple((s, 0.06 * (2 * s - 1.5 * s**2), 0.05 * s**2) for s in STRENGTHS))
    assert peaked.at_gain(peaked.gain) == pytest.approx(0.05 / 9)


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


def test_along_training_the_one_that_learned_more_is_taken_back_to_an_earlier_step():
    """Half of the steps give half of the gain and half of the forgetting; along the strengths it is another share."""
    results = played(
        ("lora", "oft"),
        gains={"lora": 0.2, "oft": 0.1},
        forgetting={"lora": 0.06, "oft": 0.04},
        best={"lora": 2.0, "oft": 2.0},
        carried=0.5,
    )
    effects = Effects.of(results)
    assert Matched.of(effects, Part.BASE, Along.TRAINING).compare("oft", "lora").mean == pytest.approx(0.03 - 0.04)
    assert Matched.of(effects, Part.BASE).compare("oft", "lora").mean < -0.02
    for along in Along:  # out-of-domain both keep half of their gains, so nothing is left at equal gains
        assert Matched.of(effects, Part.OOD, along).compare("oft", "lora").mean == pytest.approx(0, abs=1e-9)


def test_a_path_that_ends_elsewhere_moves_in_proportion():
    moved = path(0.06, 0.05).moved(-0.02, 0.01)
    assert moved.points[0] == (0.0, 0.0, 0.0)
    assert moved.points[2] == pytest.approx((0.5, 0.02, 0.0175))
    assert moved.points[-1] == pytest.approx((1.0, 0.04, 0.06))


def test_another_rate_adds_what_it_changes_at_equal_learning():
    """One that gains and forgets more along the same path is taken back to the same point: another rate adds nothing."""
    effects = Effects.of(
        played(
            ("lora", "oft"),
            gains={"lora": 0.2, "oft": 0.1},
            forgetting={"lora": 0.06, "oft": 0.04},
            best={"lora": 2.0, "oft": 2.0},
            noise=0.001,
        )
    )
    shares = {3.2e-3: 0.5, 5.6e-3: 0.5}

    def variance(loss: float, forgotten: float) -> float:
        responses = {"in_domain": Step(loss), "forgetting": Step(forgotten)}
        selections = dict.fromkeys(effects.selections, NO_SELECTION) | {("lora", "prose"): Selection(shares, responses)}
        matched = Matched.of(replace(effects, selections=selections), Part.BASE, Along.TRAINING)
        alone = Matched.of(replace(effects, selections={}), Part.BASE, Along.TRAINING)
        return 4 * (matched.compare("oft", "lora").error ** 2 - alone.compare("oft", "lora").error ** 2)

    assert variance(0.0, 0.0) == 0
    assert variance(-0.02, 0.006) == pytest.approx(0, abs=1e-9)  # a tenth more of both
    # At half of the steps half of the change is left: 0.01 on one of two equally likely rates.
    assert variance(0.0, 0.02) == pytest.approx(0.005**2, rel=0.02)


@dataclass(frozen=True)
class Step:
    """A metric that is higher at all rates above 0.004."""

    height: float

    def __call__(self, rate: float) -> float:
        return self.height * (rate > 4e-3)


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
        results.contests["oft", task].reported[2] = trial, replace(outcome, status="diverged", scores={})
    assert Matched.of(Effects.of(results)).compare("oft", "lora").n == 4
