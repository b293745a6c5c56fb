"""The table at equal learning, over results that the test makes up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.equal_learning import compare_at_equal_learning
from adapterlab.lab.analysis.matched import Along
from tests.lab.made_up import played

GAINS, FORGETTING = {"lora": 0.1, "oft": 0.2, "ia3": 0.05}, {"lora": 0.04, "oft": 0.06, "ia3": 0.03}


@pytest.fixture
def results():
    best = dict.fromkeys(GAINS, 2.0)
    return played(tuple(GAINS), gains=GAINS, forgetting=FORGETTING, best=best, carried=0.5)


def test_each_contestant_is_compared_with_the_reference_as_trained_and_both_ways(results):
    oft, ia3 = compare_at_equal_learning(Effects.of(results))
    assert (oft.contestant, ia3.contestant) == ("oft", "ia3")
    assert oft.forgetting.as_trained.mean == pytest.approx(0.04 - 0.06)
    assert oft.forgetting.matched[Along.TRAINING].mean == pytest.approx(0.04 - 0.03)
    assert oft.out_of_domain.as_trained.mean == pytest.approx(0.05)
    assert oft.out_of_domain.matched[Along.STRENGTH].mean == pytest.approx(0, abs=1e-9)
    assert ia3.forgetting.matched[Along.TRAINING].mean == pytest.approx(0.02 - 0.03)


def test_the_cost_of_equal_learning_counts_the_runs_that_reach_it(results):
    """On the made-up curve half of the gain is there after 10 steps: OFT is then where LoRA ends. A step takes 0.1 s."""
    oft, ia3 = compare_at_equal_learning(Effects.of(results))
    assert (oft.reached.runs, oft.reached.of) == (6, 6)
    assert oft.reached.steps == pytest.approx(10)
    assert oft.reached.seconds == pytest.approx(1.0)
    assert (ia3.reached.runs, ia3.reached.of) == (0, 6)
    assert math.isnan(ia3.reached.steps)


def test_a_run_that_reaches_it_with_its_last_step_is_told_from_one_that_never_does(results):
    for contest in results.contests.values():
        if contest.contestant == "oft":
            contest.reported = {
                seed: (trial, replace(outcome, curve=(), scores=outcome.scores | {"validation": (0.9, 0.5)}))
                for seed, (trial, outcome) in contest.reported.items()
            }
    oft, _ = compare_at_equal_learning(Effects.of(results))
    assert (oft.reached.runs, oft.reached.steps) == (6, 40)


def test_without_paths_there_is_no_table():
    assert compare_at_equal_learning(Effects.of(played(tuple(GAINS), gains=GAINS))) == ()
