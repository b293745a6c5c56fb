"""Answers of made-up sweeps whose truth is known: which level is enough, whether rates move, whether the order settled."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adapterlab.lab.analysis.across_cells import predict
from adapterlab.lab.analysis.cells import line_of
from adapterlab.lab.analysis.rate_shift import Point, rate_shift, shift
from adapterlab.lab.analysis.responses import LevelGain, Response, respond
from adapterlab.lab.analysis.settling import settle
from adapterlab.lab.analysis.sweep_answers import answer_sweep
from adapterlab.lab.statistics import from_error, paired
from tests.lab.swept import START, swept

RANKS = {"rank": (2, 8, 32)}
LENGTHS = {"steps": (20, 40, 80)}


def by_rank(low: float, middle: float):
    """A gain that is smaller by so much at rank 2 and at rank 8 than at rank 32."""
    return lambda name, task, levels: 0.06 - {2: low, 8: middle, 32: 0.0}[levels["rank"]]


def answer(gain, noise: float = 0.001, seed: int = 0, sweep=RANKS, names=("lora", "pissa"), **how):
    return swept(names, gain, sweep=sweep, noise=noise, rng=np.random.default_rng(seed), **how)


def test_the_smallest_rank_that_no_other_beats_by_what_matters_is_enough():
    found = respond(answer(by_rank(0.02, 0.0005)), "lora", "rank")
    assert found.enough is not None
    assert found.enough.level == 8
    assert found.sentence.startswith("lora: rank 8 is enough; no other is better by 0.005 or more.")
    assert [level.parameters for level in found.levels] == [200, 800, 3200]


def test_noise_makes_no_rank_enough():
    found = respond(answer(by_rank(0.02, 0.0), noise=0.02), "lora", "rank")
    assert found.enough is None
    assert "no rank is shown to be enough" in found.sentence


def test_the_largest_level_is_not_called_enough():
    found = respond(answer(by_rank(0.03, 0.02)), "lora", "rank")
    assert (
        found.sentence
        == "lora: less than rank 32 is not shown to be enough (within 0.005 of it); more was not measured."
    )


def test_the_difference_of_two_levels_is_that_of_their_paired_runs():
    """An effect that a seed has on all runs of a task cancels: the interval is that of paired differences."""
    found = respond(answer(by_rank(0.01, 0.004), shared=0.05), "lora", "rank")
    behind = {level.level: level.behind for level in found.levels if level.behind is not None}
    assert behind[2].mean == pytest.approx(0.01, abs=0.002)
    assert behind[2].error < 0.002
    assert found.levels[0].gain.error > 0.01


def test_without_noise_a_difference_is_exact():
    found = respond(answer(by_rank(0.01, 0.004), noise=0.0), "lora", "rank")
    assert [level.gain.mean for level in found.levels] == pytest.approx([0.05, 0.056, 0.06])


def test_a_contestant_without_a_rank_runs_once_and_has_no_response():
    cells = answer(by_rank(0.02, 0.0), names=("lora", "oft"))
    assert cells.responds("lora", "rank")
    assert not cells.responds("oft", "rank")
    answers = answer_sweep(list(cells.by_cell.values()), cells.sweep)
    assert {response.contestant for response in answers.responses} == {"lora"}
    assert "The rank of oft is not swept." in answers.sentences


def test_the_best_targets_and_those_within_what_matters_of_them_are_named():
    apart = {"all-linear": 0.0, "query": 0.02, "up": 0.0005}
    cells = answer(
        lambda name, task, levels: 0.06 - apart[levels["targets"]], sweep={"targets": ("all-linear", "query", "up")}
    )
    found = respond(cells, "lora", "targets")
    assert [level.level for level in found.levels if level.enough] == ["all-linear", "up"]
    others = {"lora learns most on all-linear; up is", "lora learns most on up; all-linear is"}
    assert found.sentence.split(" within")[0] in others


def test_between_models_gains_are_shown_and_not_compared():
    level = LevelGain("embedded", paired([0.05, 0.06]), None, 1.0, 10, 0.1)
    assert Response("lora", "model", (level,), 0.005).sentence == ""


def test_a_level_at_which_every_run_diverged_is_left_out():
    lost = LevelGain(2, from_error(math.nan, math.inf, 0, 0), None, 1.0, 0, math.nan)
    kept = LevelGain(8, paired([0.05, 0.051]), None, 1.0, 10, 0.1)
    assert Response("lora", "rank", (lost, kept), 0.005).best is kept
    assert "every run diverged" in Response("lora", "rank", (lost,), 0.005).sentence


def moving(power: float):
    """A best rate that goes with a power of the rank."""
    return lambda name, levels: START * (levels["rank"] / 8) ** power


def test_a_rate_that_falls_with_rank_is_found_with_its_factor():
    found = rate_shift(answer(by_rank(0.0, 0.0), noise=0.0, best=moving(-0.5)), "lora", "rank")
    assert (found.low, found.high) == (2, 32)
    assert 10**found.effect.low <= 16**-0.5 <= 10**found.effect.high
    assert 10**found.effect.mean == pytest.approx(16**-0.5, rel=0.35)  # to a step of the lattice
    assert found.effect.real


def test_a_rate_that_stays_is_not_shown_to_move():
    cells = answer(by_rank(0.0, 0.0), noise=0.001)
    answers = answer_sweep(list(cells.by_cell.values()), cells.sweep)
    assert answers.published
    (sentence,) = [found.sentence for found in answers.shifts if found.contestant == "lora"]
    assert "the best rate is not shown to move with rank: at rank 32 it is" in sentence


def test_the_slope_is_that_of_least_squares_with_an_intercept_for_each_task():
    rng = np.random.default_rng(2)
    by_task = {task: [[Point(r, 10 ** rng.normal(-2, 0.3)) for r in (2, 8, 32, 128)]] for task in ("a", "b")}
    x = np.log10([2, 8, 32, 128])
    slopes = [np.polyfit(x, np.log10([p.rate for p in points]), 1)[0] for (points,) in by_task.values()]
    effect = shift(by_task)
    assert effect.mean == pytest.approx(np.mean(slopes) * math.log10(64))
    error = 0.25 / math.sqrt(12) / math.sqrt(((x - x.mean()) ** 2).sum()) / math.sqrt(2) * math.log10(64)
    assert effect.error == pytest.approx(error)


def test_a_difference_that_still_moves_is_named():
    def gain(name, task, levels):
        return 0.06 - (0.03 * math.log2(80 / levels["steps"]) if name == "pissa" else 0.0)

    found = settle(answer(gain, sweep=LENGTHS))
    (drift,) = found.drifts
    assert drift.last.mean == pytest.approx(0.03, abs=0.005)
    assert drift.trend.mean == pytest.approx(0.03, abs=0.005)
    assert found.sentence.startswith(
        "The order has not settled: from 40 to 80 steps, pissa's difference from lora still moves by +0.0"
    )
    assert found.orders[0] == ("lora", "pissa")


def test_differences_that_stay_have_settled_and_noise_settles_nothing():
    steady = settle(answer(lambda name, task, levels: {"lora": 0.06, "pissa": 0.05}[name], sweep=LENGTHS))
    assert steady.sentence == (
        "The order has settled: from 40 to 80 steps, no difference from lora moves by 0.005 or more per doubling."
    )
    noisy = [settle(answer(lambda name, task, levels: 0.06, noise=0.02, seed=i, sweep=LENGTHS)) for i in range(5)]
    assert not any("has settled:" in found.sentence for found in noisy)
    assert any(found.sentence.startswith("Whether the order has settled is not known") for found in noisy)


def test_the_prediction_is_the_mean_difference_at_the_main_cell():
    def gain(name, task, levels):
        behind = 0.005 if task == "prose" else 0.015
        return 0.06 - (behind + 0.004 * math.log2(80 / levels["steps"]) if name == "pissa" else 0.0)

    found = predict(answer(gain, sweep=LENGTHS), "pissa")
    assert found.fresh.mean == pytest.approx(-0.01, abs=0.002)
    assert found.slopes["steps"].mean == pytest.approx(0.004, abs=0.001)
    assert found.values == 6
    assert found.between_tasks == pytest.approx(0.01 / math.sqrt(2), rel=0.2)
    assert found.fresh.high - found.fresh.low > found.mean.high - found.mean.low


def test_lines_are_the_cells_that_differ_by_one_factor():
    cells = answer(
        lambda name, task, levels: 0.06, sweep={"rank": (2, 8), "steps": (20, 40), "design": "factorial"}, noise=0.0
    )
    assert len(cells.lines("rank")) == len(cells.lines("steps")) == 2
    assert {cell.by_factor["steps"] for cell in line_of(cells.sweep, "rank").values()} == {40}


@pytest.mark.soak
def test_a_rank_that_lacks_what_matters_is_called_enough_in_at_most_a_twentieth_of_studies():
    """Ranks 2 and 8 lack exactly the smallest difference that matters."""
    found = [respond(answer(by_rank(0.005, 0.005), 0.002, i), "lora", "rank").enough for i in range(200)]
    wrong = sum(level is not None and level.level < 32 for level in found) / 200
    assert wrong <= 0.08


@pytest.mark.soak
def test_steady_rates_and_differences_are_seldom_said_to_move():
    moved = drifted = 0
    for i in range(120):
        cells = answer(by_rank(0.0, 0.0), 0.002, i, sweep={"rank": (2, 8, 32)})
        found = rate_shift(cells, "lora", "rank")
        moved += found is not None and found.effect.real
        steps = answer(lambda name, task, levels: 0.06, 0.002, i, sweep=LENGTHS)
        drifted += settle(steps).drifts[0].last.real
    assert moved / 120 <= 0.08
    assert drifted / 120 <= 0.08
