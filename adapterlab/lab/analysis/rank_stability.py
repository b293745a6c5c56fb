"""How far the order of the contestants would hold with other seeds and on other tasks."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.statistics import Ranks, kendall_w, rank_stability


@dataclass(frozen=True)
class Order:
    """Ranks by what was learned in-domain."""

    ranks: dict[str, Ranks]
    """Of every contestant with runs that all have in common, the best mean rank first."""
    concordance: float
    """Kendall's W of the tasks' orders: 1 is the same order on each; nan for fewer than two tasks."""
    p: float
    """Of no concordance, by Friedman's test."""


def order(results: Results) -> Order:
    """Resample tasks and seeds, and see who comes where."""
    gains = {name: results.gains(name, "in_domain") for name in results.contestants}
    gains = {name: values for name, values in gains.items() if values}
    ranks = rank_stability(gains)
    rows = [
        [fmean(value for (of, _), value in gains[name].items() if of == task) for name in ranks]
        for task in results.study.tasks
        if all(any(of == task for of, _ in gains[name]) for name in ranks)
    ]
    concordance, p = kendall_w(rows)
    return Order(dict(sorted(ranks.items(), key=lambda item: item[1].mean)), concordance, p)
