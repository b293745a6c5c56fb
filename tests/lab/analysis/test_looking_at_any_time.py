"""The error of a race holds at any time at which one looks: in simulated studies without a difference, and in real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from adapterlab.lab.analysis.calibration import simulate
from adapterlab.lab.analysis.contrast import difference
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.noise_model import QUICK, World
from adapterlab.lab.analysis.pairwise import PairTable
from adapterlab.lab.analysis.scoreboard import make_scoreboard
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.statistics import at_any_time, equivalence
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training, Tuning
from tests.lab.analysis.looks import looks
from tests.lab.analysis.test_aa import drawn

NAMES = ("lora", "a", "b", "c", "d", "e")
MOST = 8


def study(design: str = "fixed") -> Study:
    """Six contestants with the same adapter."""
    return Study(
        name="made-up",
        tasks=("prose", "restyle"),
        contestants=tuple(Contestant(adapter="lora", label=name, start=1e-2) for name in NAMES),
        full_ft=False,
        full_ft_reason="not needed",
        training=Training(steps=40),
        tuning=Tuning(regret_sample=0),
        report=Reporting(seeds=tuple(range(1, MOST + 1)), design=design),
    )


def simulated(number: int, design: str = "fixed", *, correlated: bool = True, effects: dict[str, float] | None = None):
    rng = np.random.default_rng([number, correlated])
    world = World(QUICK, effects or {}, correlated, rng, -2.0 + 0.25 * rng.uniform(-0.5, 0.5))
    return simulate(resolve(study(design)), world)


def smallest_p(effects: Effects) -> float:
    return min(PairTable.of(effects, NAMES).adjusted.values())


def test_a_race_is_reported_with_e_values_and_their_correction():
    results = simulated(0, "racing", effects={"e": -0.04, "d": -0.03})
    effects = Effects.of(results)
    assert len(results.contests["e", "prose"].reported) < MOST
    found = effects.compare("lora", "e", "in_domain")
    assert found.scale == pytest.approx(2 * 0.005)
    assert found == at_any_time(replace(found, low=0.0, high=0.0, p=1.0), found.scale)
    assert found.low < found.mean - stats.t.ppf(0.975, found.df) * found.error
    board = make_scoreboard(effects)
    assert board.lead.correction == "e-Holm"
    assert board.row("e").p < 0.05
    assert equivalence(found, 0.005) == 1.0
    assert equivalence(replace(found, mean=0.0), 0.005) > equivalence(replace(found, mean=0.0, error=1e-4), 0.005)


def test_contestants_that_stopped_are_compared_over_the_seeds_that_both_have():
    effects = Effects.of(simulated(1, "racing", effects={"e": -0.04}))
    pairs = effects.numbers(difference("lora", "e", "in_domain"))
    assert sorted({seed for _, seed in pairs}) == sorted(effects.results.contests["e", "prose"].reported)


@pytest.mark.soak
@pytest.mark.parametrize("correlated", [True, False])
def test_simulated_studies_without_a_difference_seldom_find_one_at_any_look(correlated):
    """Ordinary p-values that are looked at after every seed find one twice as often as they say."""
    races, fixed = [], []
    for number in range(300):
        results = simulated(number, correlated=correlated)
        races.append(min(smallest_p(effects) for effects in looks(results)) < 0.05)
        fixed.append(min(smallest_p(effects) for effects in looks(results, design="fixed")) < 0.05)
    assert np.mean(races) <= 0.05
    assert np.mean(fixed) > np.mean(races)


@pytest.mark.soak
@pytest.mark.parametrize("metric", ["in_domain", "out_of_domain", "forgetting"])
def test_real_twins_seldom_differ_at_any_look(metric):
    """Studies drawn from the bank of real runs, looked at after every seed."""
    ever = []
    for number in range(100):
        results = drawn(number, seeds=9)
        ever.append(any(effects.compare("twin", "lora", metric).real for effects in looks(results)))
    assert np.mean(ever) <= 0.05, np.mean(ever)


@pytest.mark.soak
def test_a_race_finds_what_the_fixed_design_finds_with_fewer_runs():
    """Differences like those of the quick study: the same contestants are behind the leader, with under 60 % of the runs."""
    gaps = {"a": 0.0, "b": -0.008, "c": -0.012, "d": -0.017, "e": -0.028}
    agree, runs = [], []
    for number in range(40):
        fixed, race = (simulated(number, design, effects=gaps) for design in ("fixed", "racing"))
        behind = [set(make_scoreboard(Effects.of(results)).lead.behind) for results in (fixed, race)]
        agree.append(len(behind[0] & behind[1]) / max(1, len(behind[0] | behind[1])))
        counts = [sum(len(c.reported) for c in results.contests.values()) for results in (fixed, race)]
        runs.append(counts[1] / counts[0])
    assert np.mean(agree) > 0.8, np.mean(agree)
    assert np.mean(runs) < 0.6, np.mean(runs)
