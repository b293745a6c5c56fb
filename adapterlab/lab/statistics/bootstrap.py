"""Bootstrap intervals, for statistics whose standard error has no formula.

>>> found = bootstrap([0.1, 0.2, 0.4])
>>> round(found.low, 3), round(found.high, 3), found.method
(0.1, 0.4, 'percentile')
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

Statistic = Callable[..., Any]
"""Function of an array that accepts `axis`."""
FEWEST = 5
"""Smallest number of values for BCa intervals; fewer have too few distinct resamples, and percentiles are used."""


class Interval(NamedTuple):
    """A statistic with its bootstrap interval."""

    value: float
    low: float
    high: float
    error: float
    """Standard deviation over the resamples."""
    method: str
    """`BCa` or `percentile`; `none` for fewer than two values, whose interval is infinite."""


def bootstrap(
    values: Sequence[float],
    statistic: Statistic = np.mean,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Interval:
    """Return a statistic with its bootstrap interval (Efron 1987; scipy's `bootstrap`).

    n values have C(2n - 1, n) distinct resamples: 10 for 3 seeds, whose percentile interval runs from about the smallest to
    the largest value and covers the true value less often than its level (for the mean of three, in about 75 % of cases).

    Args:
        values: The sample; BCa is used from `FEWEST` values on.
        statistic: A function of an array that accepts `axis`, as `numpy.mean` does.
        level: Level of the interval.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    x = np.asarray(values, dtype=float)
    value = float(statistic(x, axis=-1)) if len(x) else math.nan
    if len(x) < 2:
        return Interval(value, -math.inf, math.inf, math.inf, "none")
    if np.ptp(x) == 0:
        return Interval(value, value, value, 0.0, "percentile")
    corrected = _resampled(x, statistic, level, resamples, "BCa", seed) if len(x) >= FEWEST else None
    if corrected is not None and math.isfinite(corrected.low):
        return Interval(value, *corrected)
    return Interval(value, *_resampled(x, statistic, level, resamples, "percentile", seed))


class _Resampled(NamedTuple):
    low: float
    high: float
    error: float
    method: str


def _resampled(
    x: np.ndarray, statistic: Statistic, level: float, resamples: int, method: Literal["BCa", "percentile"], seed: int
) -> _Resampled:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.bootstrap(
            (x,), statistic, confidence_level=level, n_resamples=resamples, method=method, rng=seed, vectorized=True
        )
    low, high = found.confidence_interval
    return _Resampled(float(low), float(high), float(found.standard_error), method)
