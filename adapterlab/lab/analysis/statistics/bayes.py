"""Bayes factors of paired differences.

>>> from adapterlab.lab.analysis.statistics.paired import paired
>>> effect = paired([0.020, 0.021, 0.019])
>>> round(bayes_factor_positive(effect), 1)
75.5
"""

from __future__ import annotations

import itertools
import math

from scipy import integrate, stats

from adapterlab.lab.analysis.statistics.paired import Paired

CAUCHY_SCALE = math.sqrt(0.5)
"""Scale of the Cauchy prior on a standardised effect, as usual for t-tests (Rouder et al. 2009; Morey and Rouder 2015)."""
LARGEST = 1e4
"""Limit on Bayes factors and their reciprocals: a handful of pairs is not believed beyond it."""


def bayes_factor_positive(effect: Paired) -> float:
    """Return the Bayes factor for a positive mean against an equal mixture of a mean of zero and a negative mean.

    The effect, in standard deviations of a difference, has a half-Cauchy prior of scale `CAUCHY_SCALE` on its side (the JZS
    prior of Rouder et al. 2009, one-sided as in Morey and Wagenmakers 2014).

    Args:
        effect: The mean of paired differences with its error.

    Returns:
        The Bayes factor, from 1 / `LARGEST` to `LARGEST`; 1 if the error is unknown.
    """
    if effect.df <= 0:
        return 1.0
    t = max(-60.0, min(60.0, effect.mean / _error(effect)))
    up, down = (jzs_one_sided(side, effect.n, effect.df) for side in (t, -t))
    return min(LARGEST, max(1 / LARGEST, up / (0.5 + 0.5 * down)))


def jzs_one_sided(t: float, n: int, df: float | None = None) -> float:
    """Return the one-sided JZS Bayes factor for a positive effect against no effect (Rouder et al. 2009).

    Args:
        t: One-sample (or paired) t statistic.
        n: Number of differences.
        df: Degrees of freedom of the standard error; `n - 1` if None.
    """
    df = n - 1 if df is None else df

    def weighted(effect: float) -> float:
        return float(stats.nct.pdf(t, df, effect * math.sqrt(n)) * 2 * stats.cauchy.pdf(effect, scale=CAUCHY_SCALE))

    # The likelihood peaks at t / sqrt(n); the tail of the Cauchy far beyond the peak is negligible.
    centre = max(0.0, t / math.sqrt(n))
    points = [centre] if centre > 0 else None
    value, _ = integrate.quad(weighted, 0.0, centre + 40.0, points=points, limit=200)
    return float(value / stats.t.pdf(t, df))


def bayes_factor_within(effect: Paired, within: float) -> float:
    """Return the Bayes factor for a mean within a margin of zero against a mean outside it.

    By the encompassing prior (Klugkist, Laudy and Hoijtink 2005): posterior odds over prior odds of the region, with the t
    likelihood of the mean and a Cauchy prior of scale `within`, which gives the region even prior odds.

    Args:
        effect: The mean of paired differences with its error.
        within: The margin, positive, in the unit of the mean.

    Returns:
        The Bayes factor, from 1 / `LARGEST` to `LARGEST`; 1 if the error is unknown.
    """
    if effect.df <= 0:
        return 1.0
    mean, error, df = effect.mean, _error(effect), effect.df

    def weighted(value: float) -> float:
        return float(stats.t.pdf((value - mean) / error, df) * stats.cauchy.pdf(value, scale=within))

    reach = abs(mean) + within + 60 * error
    marks = sorted({min(max(mean + k * error, -reach), reach) for k in (-5, -1, 0, 1, 5)} | {-within, within})
    edges = [-reach, *marks, reach]
    pieces = [(a, b, integrate.quad(weighted, a, b, limit=200)[0]) for a, b in itertools.pairwise(edges) if b > a]
    inside = sum(value for a, b, value in pieces if a >= -within and b <= within)
    outside = sum(value for a, b, value in pieces if b <= -within or a >= within)
    return min(LARGEST, max(1 / LARGEST, inside / max(outside, 1e-300)))


def _error(effect: Paired) -> float:
    """Return the standard error; if all differences are equal, a thousandth of the mean over the root of their number."""
    return effect.error or (1e-12 + abs(effect.mean) * 1e-3) / math.sqrt(effect.n)
