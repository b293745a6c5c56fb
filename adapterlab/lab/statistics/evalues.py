"""Evidence that may be looked at while a study runs: e-values, confidence sequences, and the correction for several of them.

An e-value is a bet against "no difference". Where there is none its mean is at most 1 at any time at which one looks, so it
ever exceeds 20 with a probability of at most 5 % (Ville's inequality). Here it is a mixture of likelihood ratios (Robbins
1970): how much more likely the estimate is if the difference is drawn from a Cauchy distribution than if it is zero. Its
tails are heavy, so that a difference far beyond those expected is evidence, too.

>>> from adapterlab.lab.statistics.paired import from_error
>>> effect = from_error(0.012, 0.003, df=20, n=6)
>>> round(e_value(effect, scale=0.01))
51
>>> e_holm({"oft": 72.0, "ia3": 900.0, "vera": 1.3})["oft"]
36.65
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from adapterlab.lab.statistics.paired import Paired

K = TypeVar("K")
NODES = 200
"""Points of the integral over the estimated error."""
SCALES = 32
"""Normal distributions whose mixture is the Cauchy distribution."""


def e_value(effect: Paired, scale: float, null: float = 0.0) -> float:
    """Return the e-value against a difference of `null`.

    The estimate is normal with the variance `error**2`, which is estimated itself: the likelihoods are means over its
    scaled inverse chi-squared distribution, which is why few degrees of freedom give small e-values.

    Args:
        effect: The estimate, with its error and degrees of freedom.
        scale: Half of the differences that one expects are at most as large.
        null: The difference that is bet against.

    Returns:
        The e-value; 1 if the error is unknown.
    """
    if effect.df <= 0 or not math.isfinite(effect.error) or not math.isfinite(effect.mean):
        return 1.0
    return math.exp(_log_e(effect.mean - null, effect.error, effect.df, scale))


def at_any_time(effect: Paired, scale: float) -> Paired:
    """Return an estimate with the interval of a confidence sequence and the p-value `1 / e`, which hold at any time.

    Args:
        effect: The estimate, with its error and degrees of freedom.
        scale: As in `e_value`.
    """
    low, high = sequence_interval(effect, scale)
    return replace(effect, low=low, high=high, p=min(1.0, 1 / e_value(effect, scale)), scale=scale)


def _log_e(distance: float, error: float, df: float, scale: float) -> float:
    if error <= 0:
        return 0.0 if distance == 0 else 700.0
    variances = error**2 * df / _chi2(df)
    against = _log_mean_density(distance, np.add.outer(variances, scale**2 * _cauchy()).ravel())
    return min(700.0, against - _log_mean_density(distance, variances))


@lru_cache(maxsize=64)
def _chi2(df: float) -> np.ndarray:
    return np.asarray(stats.chi2.ppf((np.arange(NODES) + 0.5) / NODES, df))


@cache
def _cauchy() -> np.ndarray:
    """Return variances of normal distributions, with equal weights, whose mixture is a Cauchy distribution of scale 1."""
    return np.asarray(stats.invgamma.ppf((np.arange(SCALES) + 0.5) / SCALES, 0.5, scale=0.5))


def _log_mean_density(distance: float, variances: np.ndarray) -> float:
    logs = -0.5 * (np.log(variances) + distance**2 / variances)
    top = float(logs.max())
    return top + math.log(float(np.mean(np.exp(logs - top))))


def sequence_interval(effect: Paired, scale: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a confidence sequence: the differences whose e-values are below `1 / (1 - level)`.

    Args:
        effect: The estimate, with its error and degrees of freedom.
        scale: As in `e_value`.
        level: Share of studies in which every interval, at whatever time, holds the true difference.

    Returns:
        The limits; infinite if the error is unknown.
    """
    if effect.df <= 0 or not math.isfinite(effect.error):
        return -math.inf, math.inf
    if effect.error <= 0:
        return effect.mean, effect.mean
    bound = -math.log(1 - level)

    def excess(distance: float) -> float:
        return _log_e(distance, effect.error, effect.df, scale) - bound

    reach = 4 * effect.error
    while excess(reach) < 0:
        reach *= 2
        if reach > 1e6 * effect.error:
            return -math.inf, math.inf
    width = float(brentq(excess, 0.0, reach))
    return effect.mean - width, effect.mean + width


def holm_at_any_time(p: Mapping[K, float]) -> dict[K, float]:
    """Return p-values of e-values, `1 / e`, adjusted for several tests by `e_holm`.

    Args:
        p: By test, the p-value.
    """
    return {key: min(1.0, 1 / value) for key, value in e_holm({key: 1 / x for key, x in p.items()}).items()}


def e_holm(values: Mapping[K, float]) -> dict[K, float]:
    """Return e-values adjusted for several tests (Vovk and Wang 2021, algorithm 1).

    The tests whose adjusted values are at least 20 hold a false one with a probability of 5 % at most, for any dependence
    between them, and at any time at which one looks.

    Args:
        values: By test, the e-value.
    """
    order = sorted(values, key=lambda key: values[key])
    sums = np.cumsum([0.0, *(values[key] for key in order)])
    adjusted = {}
    for k, key in enumerate(order):
        # The least mean of this value with the smallest others: of those below it in the order, i at a time.
        means = [(values[key] + sums[i]) / (1 + i) for i in range(k + 1)]
        adjusted[key] = float(min(means))
    return {key: adjusted[key] for key in values}
