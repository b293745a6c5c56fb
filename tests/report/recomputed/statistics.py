"""The statistics of docs/statistics.md, written from the papers that it names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from statsmodels.stats.multitest import multipletests


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error."""

    mean: float
    error: float
    df: float
    n: int

    @property
    def reach(self) -> float:
        """Half of the width of the 95 % interval."""
        return float(stats.t.ppf(0.975, self.df)) * self.error if math.isfinite(self.error) else math.inf

    @property
    def low(self) -> float:
        return self.mean - self.reach

    @property
    def high(self) -> float:
        return self.mean + self.reach

    @property
    def p(self) -> float:
        """Two-sided p-value of zero."""
        if not math.isfinite(self.error):
            return 1.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.df)) if self.error else float(self.mean == 0)

    def equivalent(self, within: float) -> float:
        """P-value of two one-sided tests (Schuirmann 1987)."""
        lower = stats.t.sf((self.mean + within) / self.error, self.df)
        upper = stats.t.cdf((self.mean - within) / self.error, self.df)
        return float(max(lower, upper))


def satterthwaite(mean: float, parts: Iterable[tuple[float, float]], n: int) -> Estimate:
    """The sum of independent variances, each with its degrees of freedom."""
    kept = [(variance, df) for variance, df in parts if variance > 0]
    total = sum(variance for variance, _ in kept)
    if not kept:
        return Estimate(mean, 0.0, 1.0, n)
    return Estimate(mean, math.sqrt(total), total**2 / sum(v**2 / df for v, df in kept), n)


@dataclass(frozen=True)
class Prior:
    """The distribution of variances over pairs of contestants (Smyth 2004, section 6.2).

    Its degrees of freedom are those of both tasks together; each task has its own typical variance.
    """

    df: float
    typical: Mapping[str, float]
    most: Mapping[str, int]

    @classmethod
    def of(cls, variances: Mapping[str, np.ndarray], df: Mapping[str, np.ndarray], most: Mapping[str, int]) -> Prior:
        """Fit the moments of the logarithms; `most` holds the degrees of freedom of all residuals by task."""
        logs = {t: np.log(found) - digamma(df[t] / 2) + np.log(df[t] / 2) for t, found in variances.items()}
        centred = np.concatenate([values - values.mean() for values in logs.values()])
        excess = centred.var(ddof=1) - np.concatenate([polygamma(1, each / 2) for each in df.values()]).mean()
        if excess <= 0:
            return cls(math.inf, {t: float(np.average(found, weights=df[t])) for t, found in variances.items()}, most)
        prior_df = 2 * brentq(lambda half: polygamma(1, half) - excess, 1e-6, 1e6)
        shift = digamma(prior_df / 2) - math.log(prior_df / 2)
        return cls(prior_df, {t: math.exp(values.mean() + shift) for t, values in logs.items()}, most)

    def shrink(self, task: str, variance: float, df: int) -> tuple[float, float]:
        """A pair's variance and its degrees of freedom: half of the prior's count, up to those of all residuals."""
        counted = df + max(0.0, min(self.df, self.most[task] - df)) / 2
        if math.isinf(self.df):
            return self.typical[task], counted
        return (self.df * self.typical[task] + df * variance) / (self.df + df), counted


def row_part(table: np.ndarray) -> tuple[float, float]:
    """The component of the rows of a table of seeds by rows (crossed random effects), for the mean, and its df."""
    seeds, rows = table.shape
    grand, by_row, by_seed = table.mean(), table.mean(axis=0), table.mean(axis=1)
    rows_square = seeds * ((by_row - grand) ** 2).sum() / (rows - 1)
    residual = table - by_row[None, :] - by_seed[:, None] + grand
    error_square = (residual**2).sum() / ((rows - 1) * (seeds - 1)) if seeds > 1 else 0.0
    return max(0.0, (rows_square - error_square) / seeds) / rows, rows - 1.0


def holm(p: Mapping[object, float]) -> dict:
    """Holm's adjusted p-values by statsmodels."""
    return dict(zip(p, map(float, multipletests(list(p.values()), method="holm")[1]), strict=True)) if p else {}


def cochran(effects: Sequence[Estimate]) -> float:
    """P-value of equal effects: Cochran's Q over its df, against F with the smallest df of the errors."""
    known = [e for e in effects if 0 < e.error < math.inf]
    if len(known) < 2:
        return 1.0
    weights = np.array([e.error**-2 for e in known])
    means = np.array([e.mean for e in known])
    q = float((weights * (means - (weights @ means) / weights.sum()) ** 2).sum())
    return float(stats.f.sf(q / (len(known) - 1), len(known) - 1, min(e.df for e in known)))


def random_effects(effects: Sequence[Estimate]) -> tuple[Estimate, float]:
    """Paule and Mandel's variance between tasks and the interval of Hartung and Knapp, with a scale of at least one."""
    means, variances = (np.array([getattr(e, key) for e in effects]) for key in ("mean", "error"))
    variances, df = variances**2, len(effects) - 1

    def fit(tau2: float) -> tuple[float, float, np.ndarray]:
        weights = 1 / (variances + tau2)
        mean = float(weights @ means / weights.sum())
        return mean, float((weights * (means - mean) ** 2).sum()), weights

    largest = 10 * (float(np.ptp(means)) ** 2 + float(variances.max()))
    tau2 = brentq(lambda t: fit(t)[1] - df, 0, largest, xtol=1e-18) if fit(0.0)[1] > df else 0.0
    mean, q, weights = fit(tau2)
    return Estimate(mean, math.sqrt(max(1.0, q / df) / weights.sum()), df, len(effects)), math.sqrt(tau2)
