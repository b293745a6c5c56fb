"""Stability of a ranking under resampling of tasks and seeds, and the agreement of the tasks' rankings.

>>> scores = {"lora": {("prose", 1): 0.04, ("prose", 2): 0.05}, "oft": {("prose", 1): 0.01, ("prose", 2): 0.02}}
>>> rank_stability(scores)["lora"].first
1.0
>>> kendall_w([[3, 2, 1], [2, 3, 1]])[0]  # two tasks, three contestants
0.75
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Ranks:
    """Distribution of the rank of one contestant over the resamples; 1 is best."""

    first: float
    """Share of resamples in which it is first; contestants that tie for it divide the resample."""
    mean: float
    """Mean rank."""
    low: float
    """2.5th percentile of the rank."""
    high: float
    """97.5th percentile of the rank."""


def rank_stability(
    scores: Mapping[str, Mapping[tuple[str, int], float]], resamples: int = 2000, seed: int = 0
) -> dict[str, Ranks]:
    """Resample tasks and, within each task, seeds; rank the contestants by their mean score in each resample.

    The same tasks and seeds are drawn for all contestants, so an effect of a seed on all of them does not change the ranks.

    Args:
        scores: By contestant, the score by task and seed; higher is better. Only pairs of task and seed that all contestants
            have are used.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        By contestant, the distribution of its rank; empty if the contestants have no pair of task and seed in common.
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
    """Return Kendall's coefficient of concordance, corrected for ties, and its p-value by Friedman's test.

    Args:
        rows: One row for each judge (here task), with a score for each subject (here contestant).

    Returns:
        The coefficient, 1 if all rows have the same order and 0 if they have nothing in common, and the p-value; both are
        nan for fewer than two rows or three subjects.
    """
    table = np.asarray(rows, dtype=float)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3 or (np.ptp(table, axis=1) == 0).all():
        return math.nan, math.nan
    found = stats.friedmanchisquare(*table.T)
    return float(found.statistic / (table.shape[0] * (table.shape[1] - 1))), float(found.pvalue)
