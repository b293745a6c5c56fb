"""Joint posterior of all contestants' values of one metric, with random effects over tasks.

The value of contestant c on task t is `theta[c, t] = level[t] + mu[c] + u[c, t]`. The level of each task has a wide prior
of its own, since all contestants may gain more on one task than on another. The `mu` of the contestants differ by a
multivariate Cauchy distribution; `u` is normal with variance `tau^2 / 2`, so that the difference of two contestants varies
between tasks with standard deviation `tau`, which has a half-Cauchy prior (Gelman 2006). The likelihood is normal. A
statement about tasks like these is judged on the mean over the tasks plus the deviation that the mean over as many other
tasks would have.

Contestants that appear in several comparisons appear once here, so the comparisons' common errors are accounted for.

Columns that were measured elsewhere (another model, other training, other sources) are correlated with the columns that
are asked for (`Columns`): the differences between contestants are a Gaussian process over the columns. Results of one
source have a deviation in common besides, whose standard deviation has a half-Cauchy prior of its own, so that no number of
them is certain evidence.

>>> import numpy as np
>>> values, variances = np.array([[0.050, 0.052], [0.030, 0.031]]), np.full((2, 2), 1e-6)
>>> model = JointModel(scale=0.01, between=0.004)
>>> draws = model.posterior(values, variances, samples=4000, seed=0)
>>> round(float((draws.over([0, 1])[:, 0] > draws.over([0, 1])[:, 1]).mean()), 2) > 0.95
True
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats
from scipy.special import logsumexp

NODES = 12
"""Nodes of the grid over each of the two scales."""
SOURCE_NODES = 6
"""Nodes of the grid over the scale of sources."""
WIDE = 100.0
"""Usual prior standard deviation of the level of each task, in units of the scale of the contestants' differences."""


@dataclass(frozen=True)
class Draws:
    """Draws of the contestants' values."""

    theta: np.ndarray
    """Values, `(samples, contestants, tasks)`."""
    other: np.ndarray
    """Deviations of a contestant on one other task, `(samples, contestants)`."""

    def over(self, tasks: Sequence[int]) -> np.ndarray:
        """Return each contestant's value on tasks like some of these, `(samples, contestants)`.

        Args:
            tasks: Indices of the tasks.
        """
        mean: np.ndarray = self.theta[:, :, list(tasks)].mean(axis=2) + self.other / np.sqrt(len(tasks))
        return mean


@dataclass(frozen=True)
class Columns:
    """Columns whose values are asked for, and those that were measured, in this order."""

    targets: int
    """Number of columns that are asked for."""
    correlation: np.ndarray
    """Correlation of the contestants' differences between all columns, `(columns, columns)`."""
    tasks: tuple[Hashable, ...]
    """Task of each column; columns of one task have a deviation in common."""
    levels: tuple[Hashable, ...]
    """Columns of one level have it in common, for all contestants; others have levels of their own."""
    sources: tuple[Hashable | None, ...]
    """Source of each column; columns of one source have a deviation in common. None for results of one's own."""

    @classmethod
    def measured(cls, tasks: int) -> Columns:
        """Return the columns of a study whose own tasks are asked for.

        Args:
            tasks: Number of tasks.
        """
        twice = tuple(range(tasks)) * 2
        return cls(tasks, np.ones((2 * tasks, 2 * tasks)), twice, twice, (None,) * 2 * tasks)

    def covariance(self, mu: float, u: float, source: float = 0.0) -> np.ndarray:
        """Return the covariance of one contestant's values between the columns, without the levels.

        Args:
            mu: Variance of a contestant's mean.
            u: Variance of its deviation on a task.
            source: Variance of its deviation in a source.
        """
        found: np.ndarray = self.correlation * (mu + u * self._of_task) + source * self._of_source
        return found

    @cached_property
    def _of_task(self) -> np.ndarray:
        return _same(self.tasks)

    @cached_property
    def _of_source(self) -> np.ndarray:
        return _same(self.sources)

    @cached_property
    def common(self) -> np.ndarray:
        """Correlation of the levels between the columns."""
        found: np.ndarray = self.correlation * _same(self.levels)
        return found


def _same(labels: Sequence[Hashable | None]) -> np.ndarray:
    return np.array([[float(a is not None and a == b) for b in labels] for a in labels])


@dataclass(frozen=True)
class JointModel:
    """Prior of the contestants' values."""

    scale: float
    """Scale of the Cauchy distribution of the difference of two contestants, in the unit of the metric."""
    between: float
    """Scale of the half-Cauchy priors of the standard deviations of a difference between tasks and between sources."""
    level: float = WIDE
    """Prior standard deviation of the level of each task, in units of `scale`; 0 for values without one."""

    def _nodes(self) -> list[tuple[float, float]]:
        """Return the grid of the variances of `mu` and of `u`, whose nodes have equal prior probability."""
        at = (np.arange(NODES) + 0.5) / NODES
        g = stats.invgamma.ppf(at, 0.5, scale=0.5)  # a normal with this variance is a Cauchy of scale 1
        taus = self.between * stats.halfcauchy.ppf(at)
        return [(self.scale**2 * v / 2, tau**2 / 2) for v in g for tau in taus]

    def prior(self, contestants: int, tasks: int, samples: int, seed: int) -> Draws:
        """Draw from the prior.

        Args:
            contestants: Number of contestants.
            tasks: Number of tasks.
            samples: Number of draws.
            seed: Seed of the draws.

        Returns:
            Means and effects on each task.
        """
        rng = np.random.default_rng(seed)
        nodes = np.array(self._nodes())[rng.integers(NODES * NODES, size=samples)]
        mu = rng.normal(size=(samples, contestants)) * np.sqrt(nodes[:, :1])
        level = rng.normal(0, self.level * self.scale, size=(samples, 1, tasks))
        u = rng.normal(size=(samples, contestants, tasks)) * np.sqrt(nodes[:, 1])[:, None, None]
        return Draws(level + mu[:, :, None] + u, rng.normal(size=mu.shape) * np.sqrt(nodes[:, 1:]))

    def posterior(
        self, values: np.ndarray, variances: np.ndarray, samples: int, seed: int, columns: Columns | None = None
    ) -> Draws:
        """Draw from the posterior.

        Args:
            values: Estimates, `(contestants, measured columns)`; nan where a contestant was not measured.
            variances: Their variances.
            samples: Number of draws.
            seed: Seed of the draws.
            columns: The columns; if None, the tasks that were measured are asked for.

        Returns:
            Means and effects on each column that is asked for.
        """
        return self.condition(values, variances, columns).draw(samples, seed)

    def condition(self, values: np.ndarray, variances: np.ndarray, columns: Columns | None = None) -> Posterior:
        """Return the posterior, to draw from.

        Args:
            values: As for `posterior`.
            variances: Their variances.
            columns: The columns; if None, the tasks that were measured are asked for.
        """
        layout, common = columns or Columns.measured(values.shape[1]), (self.level * self.scale) ** 2
        sources = [0.0]
        if any(source is not None for source in layout.sources):
            at = (np.arange(SOURCE_NODES) + 0.5) / SOURCE_NODES
            sources = [float(v) for v in (self.between * stats.halfcauchy.ppf(at)) ** 2 / 2]
        nodes = [(mu, u, source) for mu, u in self._nodes() for source in sources]
        fits = [_fit(values, variances, layout.covariance(*node), layout, common) for node in nodes]
        return Posterior(tuple(fits), tuple(u for _, u, _ in nodes))


@dataclass(frozen=True)
class Posterior:
    """Posterior of the contestants' values on the columns that are asked for."""

    fits: tuple[_Fit, ...]
    """Normal posterior at each node of the grid over the scales."""
    between: tuple[float, ...]
    """Variance of a deviation on a task at each node."""

    def draw(self, samples: int, seed: int, relevance: float = 1.0, scales: float | None = None) -> Draws:
        """Draw values at a place whose values have some correlation with those of the columns.

        At the correlation r the values are `r theta + sqrt(1 - r^2) e`, where `e` is drawn from the prior. The likelihood of
        the scales counts with the exponent r, so that nothing is learned of them at 0.

        Args:
            samples: Number of draws.
            seed: Seed of the draws.
            relevance: The correlation, from 0 to 1.
            scales: Exponent of the likelihood of the scales, if it is not the relevance.

        Returns:
            Means and effects on each column.
        """
        rng = np.random.default_rng(seed)
        log = (relevance if scales is None else scales) * np.array([fit.log_likelihood for fit in self.fits])
        counts = rng.multinomial(samples, np.exp(log - logsumexp(log)))
        theta, other = [], []
        for fit, u, count in zip(self.fits, self.between, counts, strict=True):
            if count:
                own = relevance * fit.draw(rng, int(count))
                if relevance < 1:
                    own = own + np.sqrt(1 - relevance**2) * fit.draw_prior(rng, int(count))
                theta.append(own)
                other.append(rng.normal(0, np.sqrt(u), size=(int(count), len(own[0]))))
        return Draws(np.concatenate(theta), np.concatenate(other))


@dataclass(frozen=True)
class _Fit:
    """Normal posterior of all values at one node of the grid."""

    mean: np.ndarray
    covariance: np.ndarray
    prior: np.ndarray
    """Covariance before the measurement."""
    shape: tuple[int, int]
    log_likelihood: float

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        found: np.ndarray = self.mean + _normal(self.covariance, rng, count)
        return found.reshape(count, *self.shape)

    def draw_prior(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return _normal(self.prior, rng, count).reshape(count, *self.shape)


def _normal(covariance: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    found: np.ndarray = rng.normal(size=(count, len(covariance))) @ root.T
    return found


def _fit(values: np.ndarray, variances: np.ndarray, own: np.ndarray, layout: Columns, common: float) -> _Fit:
    contestants = len(values)
    everyone = np.kron(np.ones((contestants, contestants)), common * layout.common)
    prior = np.kron(np.eye(contestants), own) + everyone
    asked = np.zeros((contestants, len(layout.tasks)), dtype=bool)
    asked[:, : layout.targets] = True
    seen = np.zeros_like(asked)
    seen[:, layout.targets :] = np.isfinite(values)
    targets, known = asked.ravel(), seen.ravel()
    at = np.isfinite(values)
    total = prior[np.ix_(known, known)] + np.diag(variances[at])
    weights = np.linalg.solve(total, prior[np.ix_(known, targets)]).T  # targets x known
    before = prior[np.ix_(targets, targets)]
    covariance = before - weights @ prior[np.ix_(known, targets)]
    _, log_determinant = np.linalg.slogdet(total)
    log_likelihood = -0.5 * (float(values[at] @ np.linalg.solve(total, values[at])) + float(log_determinant))
    return _Fit(weights @ values[at], covariance, before, (contestants, layout.targets), log_likelihood)
