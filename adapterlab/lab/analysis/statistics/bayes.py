"""Bayes factors of paired differences."""

from __future__ import annotations

import itertools
import math

from scipy import integrate, stats

from adapterlab.lab.analysis.statistics.paired import Paired

CAUCHY_SCALE = math.sqrt(0.5)
"""Width of the prior on a standardised effect, the usual one for t-tests (Rouder et al. 2009; Morey and Rouder 2015)."""
LARGEST = 1e4
"""No Bayes factor from a handful of pairs is believed beyond this, either way."""


def bayes_factor_positive(effect: Paired) -> float:
    """How much better "the mean is positive" foretells the differences than "it is zero, or negative".

    The two parts of the alternative weigh the same. An effect, in standard deviations of a difference, is half-Cauchy of
    scale `CAUCHY_SCALE` on its side (the JZS prior of Rouder et al. 2009, one-sided as in Morey and Wagenmakers 2014).
    """
    if effect.df <= 0:
        return 1.0
    t = max(-60.0, min(60.0, effect.mean / _error(effect)))
    up, down = (jzs_one_sided(side, effect.n, effect.df) for side in (t, -t))
    return min(LARGEST, max(1 / LARGEST, up / (0.5 + 0.5 * down)))


def jzs_one_sided(t: float, n: int, df: float | None = None) -> float:
    """Bayes factor of a positive effect over none, for a one-sample (or paired) t of `n` differences.

    `df` are the degrees of freedom of its error, if not `n - 1`.
    """
    df = n - 1 if df is None else df

    def weighted(effect: float) -> float:
        return float(stats.nct.pdf(t, df, effect * math.sqrt(n)) * 2 * stats.cauchy.pdf(effect, scale=CAUCHY_SCALE))

    # The likelihood is a bump around t / sqrt(n); the Cauchy's tail beyond it adds nothing that counts.
    centre = max(0.0, t / math.sqrt(n))
    points = [centre] if centre > 0 else None
    value, _ = integrate.quad(weighted, 0.0, centre + 40.0, points=points, limit=200)
    return float(value / stats.t.pdf(t, df))


def bayes_factor_within(effect: Paired, within: float) -> float:
    """How much better "the mean is within `within` of zero" foretells the differences than "it is not".

    By the encompassing prior (Klugkist, Laudy and Hoijtink 2005): posterior odds over prior odds of the region, with a
    Cauchy prior of scale `within`, for which the region has even odds, and the t likelihood of the mean.
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
    """The standard error; a thousandth of the mean where all differences are the same, which no model foretells."""
    return effect.error or (1e-12 + abs(effect.mean) * 1e-3) / math.sqrt(effect.n)
