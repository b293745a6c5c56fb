"""Bayes factors of paired differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import integrate, stats

CAUCHY_SCALE = math.sqrt(0.5)
"""Width of the prior on a standardised effect, the usual one for t-tests (Rouder et al. 2009; Morey and Rouder 2015)."""
LARGEST = 1e4
"""No Bayes factor from a handful of pairs is believed beyond this, either way."""


def bayes_factor_positive(differences: Sequence[float]) -> float:
    """How much better "the mean is positive" foretells the differences than "it is zero, or negative".

    The two parts of the alternative weigh the same. An effect, in standard deviations of a difference, is half-Cauchy of
    scale `CAUCHY_SCALE` on its side (the JZS prior of Rouder et al. 2009, one-sided as in Morey and Wagenmakers 2014).
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return 1.0
    spread = float(d.std(ddof=1)) or 1e-12 + abs(float(d.mean())) * 1e-3
    t = float(np.clip(d.mean() / (spread / math.sqrt(len(d))), -60, 60))
    up, down = jzs_one_sided(t, len(d)), jzs_one_sided(-t, len(d))
    return min(LARGEST, max(1 / LARGEST, up / (0.5 + 0.5 * down)))


def jzs_one_sided(t: float, n: int) -> float:
    """Bayes factor of a positive effect over none, for a one-sample (or paired) t of `n` differences."""
    df = n - 1

    def weighted(effect: float) -> float:
        return float(stats.nct.pdf(t, df, effect * math.sqrt(n)) * 2 * stats.cauchy.pdf(effect, scale=CAUCHY_SCALE))

    # The likelihood is a bump around t / sqrt(n); the Cauchy's tail beyond it adds nothing that counts.
    centre = max(0.0, t / math.sqrt(n))
    points = [centre] if centre > 0 else None
    value, _ = integrate.quad(weighted, 0.0, centre + 40.0, points=points, limit=200)
    return float(value / stats.t.pdf(t, df))


def bayes_factor_within(differences: Sequence[float], within: float) -> float:
    """How much better "the mean is within `within` of zero" foretells the differences than "it is not".

    By the encompassing prior (Klugkist, Laudy and Hoijtink 2005): posterior odds over prior odds of the region, with a
    Cauchy prior of scale `within`, for which the region has even odds, and the t likelihood of the mean.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return 1.0
    error = (float(d.std(ddof=1)) or 1e-12) / math.sqrt(len(d))
    mean, df = float(d.mean()), len(d) - 1

    def weighted(value: float) -> float:
        return float(stats.t.pdf((value - mean) / error, df) * stats.cauchy.pdf(value, scale=within))

    reach = abs(mean) + within + 60 * error
    marks = sorted({min(max(mean + k * error, -reach), reach) for k in (-5, -1, 0, 1, 5)} | {-within, within})
    edges = [-reach, *marks, reach]
    pieces = [(a, b, integrate.quad(weighted, a, b, limit=200)[0]) for a, b in itertools.pairwise(edges) if b > a]
    inside = sum(value for a, b, value in pieces if a >= -within and b <= within)
    outside = sum(value for a, b, value in pieces if b <= -within or a >= within)
    return min(LARGEST, max(1 / LARGEST, inside / max(outside, 1e-300)))
