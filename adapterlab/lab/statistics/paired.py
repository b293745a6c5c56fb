"""Paired differences: Student's t for one sample, and Holm's correction for several tests.

>>> effect = paired([0.020, 0.021, 0.019])
>>> round(effect.mean, 3), round(effect.low, 4), round(effect.high, 4), effect.real
(0.02, 0.0175, 0.0225, True)
>>> holm({"dora": 0.01, "oft": 0.03, "ia3": 0.04})
{'dora': 0.03, 'oft': 0.06, 'ia3': 0.06}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import stdtr, stdtrit

K = TypeVar("K")


@dataclass(frozen=True)
class Paired:
    """Mean of paired differences with its confidence interval by Student's t and its two-sided p-value."""

    mean: float
    low: float
    """Lower limit of the interval, of 95 % unless another level was asked for; infinite if the error is unknown."""
    high: float
    """Upper limit of the interval."""
    p: float
    """P-value of no difference; 1 if the error is unknown."""
    n: int
    """Number of pairs."""
    error: float = math.inf
    """Standard error of the mean; infinite if unknown."""
    df: float = 0.0
    """Degrees of freedom of the error."""
    scale: float = 0.0
    """Size of a typical difference, if interval and p-value hold at any time at which one looks
    (`adapterlab.lab.statistics.evalues`); 0 if they hold for a number of pairs that was fixed before."""

    @property
    def real(self) -> bool:
        """True if the interval excludes zero."""
        return self.low > 0 or self.high < 0


def from_error(mean: float, error: float, df: float, n: int, level: float = 0.95) -> Paired:
    """Return a mean with its interval and p-value, by Student's t.

    Args:
        mean: The mean.
        error: Its standard error; infinite if unknown.
        df: Degrees of freedom of the error; 0 if it is unknown.
        n: Number of pairs.
        level: Level of the interval.
    """
    if df <= 0 or not math.isfinite(error):
        return Paired(mean, -math.inf, math.inf, 1.0, n)
    if error <= 1e-9 * abs(mean) and 0 < n <= 2 and mean != 0:  # two equal values are no measure of their error
        return Paired(mean, -math.inf, math.inf, 1.0, n)
    if error <= 1e-9 * abs(mean):  # the differences vary by rounding alone
        return Paired(mean, mean, mean, 1.0 if mean == 0 else 0.0, n, 0.0, df)
    reach = float(stdtrit(df, (1 + level) / 2)) * error
    return Paired(mean, mean - reach, mean + reach, float(2 * stdtr(df, -abs(mean) / error)), n, error, df)


def paired(differences: Sequence[float], level: float = 0.95) -> Paired:
    """Return the mean of differences with its interval and p-value, by Student's paired t-test.

    Args:
        differences: One for each pair; fewer than two leave the error unknown.
        level: Level of the interval.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return from_error(float(d.mean()) if len(d) else math.nan, math.inf, 0, len(d), level)
    return from_error(float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1, len(d), level)


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """Return p-values adjusted for multiple testing by Holm's step-down method (Holm 1979).

    Args:
        p: By test, the p-value.
    """
    # statsmodels' `multipletests` computes the same and is the oracle of the test, but it runs the garbage collector at
    # every call, which takes most of a second once torch is loaded.
    adjusted: dict[K, float] = {}
    most = 0.0
    for i, (key, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        most = max(most, min(1.0, (len(p) - i) * value))
        adjusted[key] = most
    return {key: adjusted[key] for key in p}
