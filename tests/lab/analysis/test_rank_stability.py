"""The order of contestants whose outcomes the test makes up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adapterlab.lab.analysis.contrast import gain
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.rank_stability import RankStability, measure_rank_stability
from tests.lab.made_up import played


def stability(results: Results) -> RankStability:
    return measure_rank_stability(Effects.of(results))


NAMES = ("lora", "oft", "ia3", "dora")


def test_a_clear_order_is_kept():
    found = stability(played(NAMES, gains={"lora": 0.1, "oft": 0.2, "ia3": 0.05, "dora": 0.15}, noise=0.001))
    assert list(found.ranks) == ["oft", "dora", "lora", "ia3"]
    assert [ranks.mean for ranks in found.ranks.values()] == [1, 2, 3, 4]
    assert found.concordance == 1


def test_an_order_that_chance_made_is_not():
    found = stability(played(NAMES, gains=dict.fromkeys(NAMES, 0.1), noise=0.02))
    assert max(ranks.first for ranks in found.ranks.values()) < 1
    assert any(ranks.high - ranks.low >= 2 for ranks in found.ranks.values())


def test_a_contestant_without_runs_does_not_hide_the_others():
    results = played(NAMES, gains={"lora": 0.1, "oft": 0.2, "ia3": 0.05})
    for task in results.study.tasks:
        results.contests["dora", task].reported = {}
    assert list(stability(results).ranks) == ["oft", "lora", "ia3"]


def test_one_task_has_nothing_to_agree_with():
    results = played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.2})
    assert math.isnan(stability(results).concordance)


def test_the_concordance_is_friedmans_over_the_tasks_means():
    results = played(NAMES, gains={"lora": 0.1, "oft": 0.2, "ia3": 0.05, "dora": 0.15}, noise=0.05, seed=5)
    gains = {name: Effects.of(results).numbers(gain(name, "in_domain")) for name in NAMES}
    table = [
        [np.mean([gains[name][task, seed] for seed in (1, 2, 3)]) for name in NAMES] for task in results.study.tasks
    ]
    expected = stats.friedmanchisquare(*zip(*table, strict=True))
    found = stability(results)
    assert found.concordance == pytest.approx(expected.statistic / (2 * 3))
    assert found.p == pytest.approx(expected.pvalue)
    assert 0 < found.concordance < 1


def test_the_concordance_uses_only_tasks_that_every_contestant_ran_on():
    results = played(NAMES, gains={"lora": 0.1, "oft": 0.2, "ia3": 0.05, "dora": 0.15})
    results.contests["dora", "prose"].reported = {}
    found = stability(results)
    assert list(found.ranks) == ["oft", "dora", "lora", "ia3"]
    assert math.isnan(found.concordance)
    assert math.isnan(found.p)
