"""Searches replayed on losses that the quick study recorded: their steps, and the regret that they leave.

Each contest's prediction is the best rate of the same method on the other task, so no contest predicts itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest

from adapterlab.lab.analysis.selection import Curve
from adapterlab.lab.run.lr_search import PER_DECADE, position_of, search
from adapterlab.lab.study.spec import Tuning
from tools.learn_rate_priors import lowest

RECORDED = Path(__file__).with_name("recorded_searches.csv")
"""The quick study's runs when no prediction was trusted: its searches began with three rates half a decade apart."""
STEPS = 40
Contest = tuple[str, str]


@pytest.fixture(scope="module")
def losses() -> dict[Contest, dict[tuple[int, int], dict[float, float]]]:
    """Validation losses by contest, then by steps and seed, then by rate."""
    found: dict = defaultdict(lambda: defaultdict(dict))
    for row in pd.read_csv(RECORDED).itertuples():
        found[row.contestant, row.task][row.steps, row.seed][row.lr] = row.validation_loss
    return found


def best_of(runs) -> float:
    """Position of the lowest point, of the runs with the regret's seeds or of the first rung with the second's best."""
    at = {key: {position_of(lr): loss for lr, loss in by_rate.items()} for key, by_rate in runs.items()}
    regret = [low for (_, seed), by_rate in at.items() if seed in (201, 202) and (low := lowest(by_rate)) is not None]
    if regret:
        return fmean(regret)
    final = at[STEPS, 102]
    return (lowest(at[STEPS // 2, 101]) + min(final, key=lambda position: final[position])) / 2


def played(runs, start: float, *, trusted: bool) -> tuple[float, int]:
    """The chosen rate and the steps; rates that were not recorded have the loss of a curve through those that were."""
    first = Curve({lr: loss for lr, loss in runs[STEPS // 2, 101].items() if loss < math.inf})
    gain = fmean(runs[STEPS, 102].values()) - fmean(runs[STEPS // 2, 101][lr] for lr in runs[STEPS, 102])
    searching, steps, found = search(Tuning(), STEPS, start, trusted=trusted), 0, None
    while True:
        try:
            wanted = searching.send(found)
        except StopIteration as end:
            return end.value.rate, steps
        steps += sum(wanted.rates.values())
        known = runs[STEPS // 2, 101] if wanted.rung == 1 else runs[STEPS, 102]
        found = {lr: known.get(lr, first(lr) + (gain if wanted.rung == 2 else 0.0)) for lr in wanted.rates}


def regret(runs, rate: float) -> float:
    """The loss at a rate less that at the best other rate of full length, over common seeds; 0 if no other is better."""
    whole = [by_rate for (steps, _), by_rate in runs.items() if steps == STEPS and rate in by_rate]
    others = {lr for by_rate in whole for lr in by_rate}
    return max(fmean(by_rate[rate] - by_rate[lr] for by_rate in whole if lr in by_rate) for lr in others)


def test_predicted_searches_take_half_the_steps_and_leave_no_more_regret_than_matters(losses):
    """Within 0.002 nats per byte on average, and never above 0.005; searches without a prediction take 180 steps."""
    steps, regrets, before = [], [], []
    for (method, task), runs in losses.items():
        other = next(best_of(found) for (name, where), found in losses.items() if name == method and where != task)
        start = 10 ** (other / PER_DECADE)
        rate, taken = played(runs, start, trusted=True)
        steps.append(taken)
        regrets.append(regret(runs, rate))
        before.append(played(runs, start, trusted=False)[1])
    assert len(steps) == 14
    assert fmean(before) >= 180
    assert fmean(steps) <= fmean(before) / 2
    assert fmean(regrets) < 0.002
    assert max(regrets) < 0.005
