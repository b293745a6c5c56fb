r"""Random-effects meta-analysis of published effects, with or without groups of effects that share a source.

The effect of study `i` of source `g` is `y_i = mu + b_g + u_i + e_i`: `e_i` has the known sampling variance `v_i`, `u_i` the
variance between studies, and `b_g` the variance between sources (the three-level model; Konstantopoulos 2011). Both
variances maximize the restricted likelihood (Viechtbauer 2005). Without sources `b_g` is left out, and the interval is that
of Knapp and Hartung (2003), whose variance is never below the usual one. With sources the degrees of freedom are those of
the sources. `i2` is the share of the variance that is heterogeneity (Higgins and Thompson 2002), with the sources' part.

The numbers equal those of metafor (Viechtbauer 2010): `rma(yi, vi)` and `rma.mv(yi, vi, random = ~ 1 | source/study)`.

>>> found = random_effects([0.1, 0.4, 0.3], [0.01, 0.02, 0.01])
>>> round(found.mean, 3), round(found.between_studies, 3), found.studies
(0.25, 0.01, 3)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
"""Level of the intervals."""


@dataclass(frozen=True)
class MetaAnalysis:
    """Estimate of the mean effect."""

    mean: float
    """Mean effect, in the unit of the effects."""
    error: float
    """Standard error of the mean."""
    df: float
    """Degrees of freedom of the interval; 0 with one study or one source, whose interval is unknown."""
    between_studies: float
    """Variance of the true effect between studies of one source; between all studies without sources."""
    between_sources: float
    """Variance between sources; 0 without sources."""
    heterogeneity: float
    """Cochran's Q: the weighted sum of squared deviations from the common-effect mean."""
    i2: float
    """Share of the variance of the effects that is no sampling error, from 0 to 1."""
    studies: int
    sources: int

    @property
    def p_heterogeneity(self) -> float:
        """P-value of the hypothesis that all studies have one true effect."""
        return float(stats.chi2.sf(self.heterogeneity, self.studies - 1)) if self.studies > 1 else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the mean effect at `LEVEL`; not a number with one study or one source."""
        return self._around(self.error)

    @property
    def prediction(self) -> tuple[float, float]:
        """Interval of the true effect in a new study of a new source, at `LEVEL` (Higgins and others 2009)."""
        return self._around(math.sqrt(self.error**2 + self.between_studies + self.between_sources))

    @property
    def p(self) -> float:
        """Two-sided p-value of the hypothesis that the mean effect is 0; 1 if its error is unknown."""
        if self.df <= 0:
            return 1.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.df))

    def _around(self, error: float) -> tuple[float, float]:
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.df)) * error if self.df > 0 else math.nan
        return self.mean - half, self.mean + half


def random_effects(
    effects: Sequence[float], variances: Sequence[float], sources: Sequence[Hashable] | None = None
) -> MetaAnalysis:
    """Pool effects by restricted maximum likelihood.

    Args:
        effects: One effect for each study.
        variances: Their sampling variances, positive.
        sources: Source of each study; None if each study is a source of its own.

    Returns:
        The mean effect and its heterogeneity.

    Raises:
        ValueError: If there is no effect, the lengths differ, or a variance is not positive.
    """
    y, v = np.asarray(effects, dtype=float), np.asarray(variances, dtype=float)
    if not len(y) or len(y) != len(v) or (sources is not None and len(sources) != len(y)):
        raise ValueError(f"{len(y)} effects, {len(v)} variances: give one variance and one source for each effect")
    if not (np.isfinite(y).all() and (v > 0).all()):
        raise ValueError("effects must be numbers and variances positive")
    names = list(range(len(y))) if sources is None else list(sources)
    groups = len(set(names))
    shared = np.array([[a == b for b in names] for a in names], dtype=float)
    three_level = 1 < groups < len(y)
    studies, between = _restricted(y, v, shared if three_level else None)
    covariance = np.diag(v + studies) + between * shared
    mean, error = _weighted(y, covariance)
    if not three_level and sources is None and len(y) > 1:
        error *= math.sqrt(max(1.0, _spread(y, covariance, mean) / (len(y) - 1)))
    q = _spread(y, np.diag(v), _weighted(y, np.diag(v))[0])
    typical = _typical(v)
    total = studies + between
    return MetaAnalysis(
        mean,
        error,
        float(groups - 1),
        studies,
        between,
        q,
        total / (total + typical) if typical else 0.0,
        len(y),
        groups,
    )


def _restricted(y: np.ndarray, v: np.ndarray, shared: np.ndarray | None) -> tuple[float, float]:
    """Return the variances between studies and between sources with the largest restricted likelihood."""
    if len(y) == 1:
        return 0.0, 0.0
    scale = float(np.var(y, ddof=1)) or float(v.mean())

    def loss(at: np.ndarray) -> float:
        covariance = np.diag(v + scale * at[0])
        if shared is not None:
            covariance = covariance + scale * at[1] * shared
        precision = np.linalg.inv(covariance)
        total = precision.sum()
        rest = y - precision.sum(axis=0) @ y / total
        return float(np.linalg.slogdet(covariance)[1] + math.log(total) + rest @ precision @ rest) / 2

    size = 1 if shared is None else 2
    starts = [np.full(size, start) for start in (0.01, 0.3, 1.0)]
    fits = [
        optimize.minimize(
            loss, start, method="L-BFGS-B", bounds=[(0, None)] * size, options={"ftol": 1e-15, "gtol": 1e-11}
        )
        for start in starts
    ]
    best = min(fits, key=lambda fit: float(fit.fun)).x * scale
    return float(best[0]), 0.0 if shared is None else float(best[1])


def _weighted(y: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    """Return the generalized least-squares mean and its standard error."""
    weights = np.linalg.solve(covariance, np.ones(len(y)))
    return float(weights @ y / weights.sum()), float(1 / math.sqrt(weights.sum()))


def _spread(y: np.ndarray, covariance: np.ndarray, mean: float) -> float:
    rest = y - mean
    return float(rest @ np.linalg.solve(covariance, rest))


def _typical(v: np.ndarray) -> float:
    """Return the typical sampling variance of Higgins and Thompson (2002); 0 with one study."""
    weights = 1 / v
    divisor = float(weights.sum() ** 2 - (weights**2).sum())
    return float((len(v) - 1) * weights.sum() / divisor) if divisor > 0 else 0.0
