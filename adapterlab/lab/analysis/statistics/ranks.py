"""Whether the order of the contestants would stay the same with other seeds and other tasks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Ranks:
    """How one contestant ranks over the resamples; 1 is best."""

    first: float
    """Share of resamples in which it is first; ties share."""
    mean: float
    low: float
    """The 2.5th percentile of its rank."""
    high: float


def rank_stability(
    scores: Mapping[str, Mapping[tuple[str, int], float]], resamples: int = 2000, seed: int = 0
) -> dict[str, Ranks]:
    """Rank distributions under resampling of tasks and, within a task, of seeds; higher scores are better.

    `scores` gives each contestant's score by task and seed. The same seeds are drawn for every contestant, so that what a
    seed has for all does not stir the order. Only pairs of task and seed that all contestants have are used; with none in
    common there is nothing to rank.
    """
    names = list(scores)
    common = sorted(set.intersection(*(set(scores[name]) for name in names))) if names else []
    if not common:
        return {}
    table = [
        np.array([[scores[name][key] for name in names] for key in keys])
        for _, keys in ((task, list(keys)) for task, keys in itertools.groupby(common, key=lambda key: key[0]))
    ]
    rng = np.random.default_rng(seed)
    total = np.zeros((resamples, len(names)))
    for _ in table:
        task = rng.integers(len(table), size=resamples)
        for t, values in enumerate(table):
            drawn = rng.integers(len(values), size=(resamples, len(values)))
            total += np.where((task == t)[:, None], values[drawn].mean(axis=1), 0.0)
    ranks = stats.rankdata(-total, axis=1)
    best = total == total.max(axis=1, keepdims=True)
    first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0, method="nearest")
    return {
        name: Ranks(float(first[i]), float(ranks[:, i].mean()), float(low[i]), float(high[i]))
        for i, name in enumerate(names)
    }


def kendall_w(rows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Kendall's coefficient of concordance, corrected for ties, and its p-value by Friedman's test.

    `rows` are the judges (here tasks), each with a score for every subject (here contestant). 1 is the same order
    everywhere, 0 none in common. Needs two rows and three subjects; else both are nan.
    """
    table = np.asarray(rows, dtype=float)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3 or (np.ptp(table, axis=1) == 0).all():
        return math.nan, math.nan
    found = stats.friedmanchisquare(*table.T)
    return float(found.statistic / (table.shape[0] * (table.shape[1] - 1))), float(found.pvalue)
