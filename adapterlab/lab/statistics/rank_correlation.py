"""Rank correlation with its interval, for claims such as "forgetting follows drift on general text".

>>> found = rank_correlation([0.1, 0.2, 0.4, 0.5, 0.9], [1.0, 3.0, 2.0, 4.0, 5.0])
>>> round(found.rho, 3), round(found.low, 3), round(found.high, 3), found.pairs
(0.9, -0.169, 0.996, 5)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from adapterlab.errors import AdapterlabError


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation with its interval."""

    rho: float
    """Spearman's rho; NaN if one of the two does not vary."""
    low: float
    """Lower end of the interval; -1 for fewer than four pairs."""
    high: float
    """Upper end of the interval; 1 for fewer than four pairs."""
    p: float
    """Two-sided p-value of no association (`scipy.stats.spearmanr`); NaN if one of the two does not vary."""
    pairs: int
    """Number of pairs."""


def rank_correlation(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> RankCorrelation:
    """Return Spearman's rank correlation of paired values with its interval.

    The interval is normal for Fisher's z, with the variance `(1 + rho^2 / 2) / (n - 3)` (Bonett and Wright 2000). For a
    correlation of one, whose z is infinite, its inner end is that of the next smaller correlation without ties. It takes the
    pairs as independent: average runs that differ by their seed alone first.

    Args:
        first: Values of one quantity, such as the drift on general text of each adapter on each task.
        second: Values of the other in the same order, such as the forgetting.
        level: Level of the interval.

    Raises:
        AdapterlabError: The two have different lengths, fewer than two values, or one that is not finite.
    """
    if len(first) != len(second) or len(first) < 2:
        raise AdapterlabError(
            f"a rank correlation needs two values for each of at least two trials, not {len(first)} and {len(second)}"
        )
    if not np.isfinite([*first, *second]).all():
        raise AdapterlabError("a rank correlation needs finite values: leave out trials that diverged")
    count = len(first)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return RankCorrelation(math.nan, -1.0, 1.0, math.nan, count)
    found = stats.spearmanr(first, second)
    # Rounding leaves 0.9999999999999999 for equal ranks, whose interval would be a point.
    rho = round(float(found.statistic), 12)
    low, high = _interval(rho, count, level)
    return RankCorrelation(rho, low, high, float(found.pvalue), count)


class FisherZ(NamedTuple):
    """Fisher's z of a rank correlation, which is normal for many pairs."""

    value: float
    """Inverse hyperbolic tangent of the correlation."""
    error: float
    """Its standard error; infinite for fewer than four pairs."""


def fisher_z(rho: float, pairs: int) -> FisherZ:
    """Return Fisher's z of Spearman's rank correlation, with the standard error of Bonett and Wright (2000).

    Args:
        rho: The correlation; one of 1 or -1 counts as the next smaller one without ties.
        pairs: Number of pairs.

    >>> z = fisher_z(0.5, 28)
    >>> round(z.value, 4), round(z.error, 4)
    (0.5493, 0.2121)
    """
    if pairs < 4:
        return FisherZ(math.atanh(rho) if abs(rho) < 1 else math.copysign(math.inf, rho), math.inf)
    nearest = 1 - 6 * 2 / (pairs * (pairs**2 - 1))
    rho = math.copysign(min(abs(rho), nearest), rho)
    return FisherZ(math.atanh(rho), math.sqrt((1 + rho**2 / 2) / (pairs - 3)))


def _interval(rho: float, count: int, level: float) -> tuple[float, float]:
    if count < 4:
        return -1.0, 1.0
    z = fisher_z(rho, count)
    reach = stats.norm.ppf((1 + level) / 2) * z.error
    low, high = math.tanh(z.value - reach), math.tanh(z.value + reach)
    return (-1.0 if rho <= -1 else low), (1.0 if rho >= 1 else high)
