"""Planted truths: after the whole chain, claims and the thesis that end near p are true in p of the cases.

The normal suite judges 40 worlds, which find large errors alone; `make soak` 200 of several kinds.
`benchmarks/planted_ledgers.py` draws the worlds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from adapterlab import argmap
from adapterlab.verdict.joint_update import tilt
from benchmarks.planted_ledgers import (
    APART,
    SCENARIOS,
    SHARED,
    THESIS,
    Ledger,
    Scenario,
    of_ledgers,
    play,
    reliability,
)

FEW = 40
CLAIMS = ("A", "B", "Against", "D")


def judged(scenario: Scenario, count: int, seed: int = 5) -> list[Ledger]:
    return [play(scenario, [seed, i]) for i in range(count)]


@pytest.fixture(scope="module")
def few() -> list[Ledger]:
    return judged(Scenario("few", SHARED), FEW)


def test_claims_that_end_near_p_are_true_in_p_of_the_cases(few):
    found = of_ledgers(few, CLAIMS)
    assert found.p > 0.001, found.table
    assert abs(found.excess) < 4 * found.excess_error
    assert found.slope == pytest.approx(1, abs=4 * found.slope_error)


def test_the_thesis_is_true_as_often_as_it_is_said_to_be(few):
    found = of_ledgers(few, [THESIS])
    assert found.p > 0.001, found.table
    assert abs(found.excess) < 4 * found.excess_error


def test_the_contests_told_true_claims_from_false_ones(few):
    """Otherwise agreement would be easy: forecasts at the base rate are calibrated."""
    before, after = (of_ledgers(few, CLAIMS, when).brier for when in ("before", "after"))
    assert after < 0.5 * before
    assert of_ledgers(few, [THESIS]).brier < of_ledgers(few, [THESIS], "before").brier


def test_forecasts_too_far_from_the_middle_are_found_out(few):
    def sharper(ledger: Ledger) -> Ledger:
        odds = {title: (p / (1 - p)) ** 4 for title, p in ledger.before.items()}
        return replace(ledger, before={title: o / (1 + o) for title, o in odds.items()})

    found = of_ledgers([sharper(ledger) for ledger in few], CLAIMS, "before")
    assert found.p < 0.001
    assert found.slope < 1 - 3 * found.slope_error


def test_a_forecast_that_is_right_passes_as_often_as_the_level_says():
    """The statistic itself: by truths drawn from the forecasts, three of a ledger at once and each counted twice."""
    rng, ps = np.random.default_rng(0), []
    for _ in range(150):
        forecasts = rng.uniform(0, 1, size=(100, 3))
        truths = rng.random((100, 3)) < forecasts
        ledgers = np.repeat(np.arange(100), 6)
        ps.append(reliability(np.hstack([forecasts] * 2).ravel(), np.hstack([truths] * 2).ravel(), ledgers).p)
    found = stats.binomtest(sum(p < 0.05 for p in ps), len(ps)).proportion_ci(0.999)
    assert found.low < 0.05 < found.high
    assert np.mean(ps) == pytest.approx(0.5, abs=0.08)


def test_the_planted_map_is_right_before_the_contests():
    """Its credences and predictions are the frequencies of the truths that were drawn."""
    import benchmarks.planted_ledgers as planted

    scenario, rows = Scenario("right", APART), []
    for i in range(600):
        rng = np.random.default_rng([9, i])
        truth = planted.draw_truth(scenario, rng)
        scores = argmap.score(planted.map_of(scenario, truth, rng)).claims
        rows.append(Ledger(truth, {t: c.credence for t, c in scores.items()}, {}))
    for titles in (CLAIMS, [THESIS]):
        found = of_ledgers(rows, titles, "before")
        assert found.p > 0.001, found.table


def test_a_tilted_prior_has_the_stated_credences():
    rng = np.random.default_rng(0)
    holds = rng.random((4000, 3)) < [0.3, 0.4, 0.6]
    weights = tilt(holds, [0.8, 0.2, 0.5])(holds)
    assert holds.T @ weights == pytest.approx([0.8, 0.2, 0.5], abs=1e-3)


@pytest.mark.soak
@pytest.mark.parametrize("scenario", SCENARIOS[:6], ids=lambda scenario: scenario.name)
def test_the_chain_is_calibrated_in_200_worlds(scenario):
    ledgers = judged(scenario, 200)
    tested = [claim.title for claim in scenario.claims if claim.pair]
    for titles in (tested, [THESIS]):
        found = of_ledgers(ledgers, titles)
        assert found.p > 0.001, found.table
