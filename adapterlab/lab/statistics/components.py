"""A mean with its interval from several independent components of variance.

>>> seeds, rows = Component(4e-6, df=14), Component(1e-6, df=31)
>>> effect = from_components(0.01, [seeds, rows], n=6)
>>> round(effect.error, 5), round(effect.df, 1)
(0.00224, 21.3)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from adapterlab.lab.statistics.paired import Paired, from_error

MANY = 1e9
"""Largest degrees of freedom, in place of infinitely many: Student's t is normal, and df / (df - 2) is a number."""


class Component(NamedTuple):
    """Part of the variance of an estimate."""

    variance: float
    df: float
    """Degrees of freedom of its estimate."""

    def times(self, factor: float) -> Component:
        """Return the component of the estimate multiplied by a constant.

        Args:
            factor: Square of the constant.
        """
        return Component(self.variance * factor, self.df)


def from_components(mean: float, components: Iterable[Component], n: int, level: float = 0.95) -> Paired:
    """Return a mean with its interval and p-value, with the degrees of freedom of Satterthwaite (1946).

    Args:
        mean: The mean.
        components: Independent parts of its variance; those of zero variance are ignored unless all are.
        n: Number of differences that were averaged.
        level: Level of the interval.
    """
    parts = list(components)
    total = sum(part.variance for part in parts)
    if total <= 0:
        return from_error(mean, 0.0, sum(part.df for part in parts), n, level)
    unsure = sum(part.variance**2 / part.df for part in parts if part.variance > 0)
    df = min(total**2 / unsure, MANY) if unsure > 0 else MANY
    return from_error(mean, math.sqrt(total), df, n, level)


def row_component(table: np.ndarray) -> Component:
    """Return the variance of a mean over seeds and rows that other rows of the same kind would add.

    Seeds and rows are crossed random effects; the component is that of the rows in the analysis of variance (Searle, Casella
    and McCulloch 1992, section 4.3), and at least 0. The variance over seeds is not part of it.

    Args:
        table: Differences, `(seeds, rows)`.
    """
    seeds, rows = table.shape
    if rows < 2:
        return Component(0.0, 1.0)
    between = seeds * float(table.mean(axis=0).var(ddof=1))
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    within = float((rest**2).sum()) / ((seeds - 1) * (rows - 1)) if seeds > 1 else 0.0
    return Component(max(0.0, between - within) / (seeds * rows), float(rows - 1))


def average(means: Sequence[float], components: Sequence[Sequence[Component]], n: int, level: float = 0.95) -> Paired:
    """Return the mean of independent means with equal weights.

    Args:
        means: One for each task.
        components: The components of variance of each.
        n: Number of differences that were averaged.
        level: Level of the interval.
    """
    share = 1 / len(means) ** 2
    return from_components(
        float(np.mean(means)), [part.times(share) for parts in components for part in parts], n, level
    )
