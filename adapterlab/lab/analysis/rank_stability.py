"""Rank stability: the rank of each contestant under resampling of tasks and seeds, and the agreement of the tasks.

>>> stability = RankStability({"lora": Ranks(first=0.9, mean=1.1, low=1, high=2)}, concordance=1.0, p=0.05)
>>> stability.ranks["lora"].mean
1.1
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.analysis.contrast import gain
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.statistics import Ranks, kendall_w, rank_stability


@dataclass(frozen=True)
class RankStability:
    """Ranks by in-domain gain, under resampling of tasks and seeds."""

    ranks: dict[str, Ranks]
    """By contestant, best mean rank first; contestants without the runs that all others have are left out."""
    concordance: float
    """Kendall's W of the tasks' orders: 1 if all tasks agree; nan for fewer than two tasks."""
    p: float
    """P-value of no concordance, by Friedman's test."""


def measure_rank_stability(effects: Effects) -> RankStability:
    """Resample tasks and seeds, and rank the contestants each time.

    Args:
        effects: Effects estimated from finished contests.

    Returns:
        The ranks and the agreement of the tasks.
    """
    results = effects.results
    gains = {name: effects.numbers(gain(name, "in_domain")) for name in results.contestants}
    gains = {name: values for name, values in gains.items() if values}
    ranks = rank_stability(gains)
    rows = [
        [fmean(value for (of, _), value in gains[name].items() if of == task) for name in ranks]
        for task in results.study.tasks
        if all(any(of == task for of, _ in gains[name]) for name in ranks)
    ]
    concordance, p = kendall_w(rows)
    return RankStability(dict(sorted(ranks.items(), key=lambda item: item[1].mean)), concordance, p)
