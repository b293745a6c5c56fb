"""Joint posterior of all contestants' values of one metric, with random effects over tasks.

The value of contestant c on task t is `theta[c, t] = level[t] + mu[c] + u[c, t]`. The level of each task has a wide prior
of its own, since all contestants may gain more on one task than on another. The `mu` of the contestants differ by a
multivariate Cauchy distribution; `u` is normal with variance `tau^2 / 2`, so that the difference of two contestants varies
between tasks with standard deviation `tau`, which has a half-Cauchy prior (Gelman 2006). The likelihood is normal. A
statement about tasks like these is judged on the mean over the tasks plus the deviation that the mean over as many other
tasks would have.

Contestants that appear in several comparisons appear once here, so the comparisons' common errors are accounted for.

A claim may be about values elsewhere, such as those of larger models, whose differences have some correlation with the ones
measured (`Posterior.draw`).

>>> import numpy as np
>>> values, variances = np.array([[0.050, 0.052], [0.030, 0.031]]), np.full((2, 2), 1e-6)
>>> model = JointModel(scale=0.01, between=0.004)
>>> draws = model.posterior(values, variances, samples=4000, seed=0)
>>> round(float((draws.over([0, 1])[:, 0] > draws.over([0, 1])[:, 1]).mean()), 2) > 0.95
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import logsumexp

NODES = 12
"""Nodes of the grid over each of the two scales."""
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
class JointModel:
    """Prior of the contestants' values."""

    scale: float
    """Scale of the Cauchy distribution of the difference of two contestants, in the unit of the metric."""
    between: float
    """Scale of the half-Cauchy prior of the standard deviation of a difference between tasks."""

    def nodes(self) -> list[tuple[float, float]]:
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
        nodes = np.array(self.nodes())[rng.integers(NODES * NODES, size=samples)]
        mu = rng.normal(size=(samples, contestants)) * np.sqrt(nodes[:, :1])
        level = rng.normal(0, WIDE * self.scale, size=(samples, 1, tasks))
        u = rng.normal(size=(samples, contestants, tasks)) * np.sqrt(nodes[:, 1])[:, None, None]
        return Draws(level + mu[:, :, None] + u, rng.normal(size=mu.shape) * np.sqrt(nodes[:, 1:]))

    def posterior(self, values: np.ndarray, variances: np.ndarray, samples: int, seed: int) -> Draws:
        """Draw from the posterior.

        Args:
            values: Estimates, `(contestants, tasks)`; nan where a contestant was not measured.
            variances: Their variances.
            samples: Number of draws.
            seed: Seed of the draws.

        Returns:
            Means and effects on each task.
        """
        return self.condition(values, variances).draw(samples, seed)

    def condition(self, values: np.ndarray, variances: np.ndarray) -> Posterior:
        """Return the posterior, to draw from.

        Args:
            values: As for `posterior`.
            variances: Their variances.
        """
        nodes = self.nodes()
        fits = [_fit(values, variances, mu, u, (WIDE * self.scale) ** 2) for mu, u in nodes]
        return Posterior(tuple(fits), tuple(u for _, u in nodes))


@dataclass(frozen=True)
class Posterior:
    """Posterior of the contestants' values."""

    fits: tuple[_Fit, ...]
    """Normal posterior at each node of the grid over the scales."""
    between: tuple[float, ...]
    """Variance of a deviation on a task at each node."""

    def draw(self, samples: int, seed: int, relevance: float = 1.0) -> Draws:
        """Draw values at a place whose values have some correlation with those measured.

        At the correlation r the values are `r theta + sqrt(1 - r^2) e`, where `e` is drawn from the prior. The likelihood of
        the scales counts with the exponent r, so that nothing is learned of them at 0.

        Args:
            samples: Number of draws.
            seed: Seed of the draws.
            relevance: The correlation, from 0 to 1.

        Returns:
            Means and effects on each task.
        """
        rng = np.random.default_rng(seed)
        log = relevance * np.array([fit.log_likelihood for fit in self.fits])
        counts = rng.multinomial(samples, np.exp(log - logsumexp(log)))
        theta, other = [], []
        for fit, u, count in zip(self.fits, self.between, counts, strict=True):
            if count:
                own = relevance * fit.draw(rng, int(count))
                if relevance < 1:
                    own = own + np.sqrt(1 - relevance**2) * fit.draw_prior(rng, int(count))
                theta.append(own)
                other.append(rng.normal(0, np.sqrt(u), size=(int(count), len(own[0]))))
        order = rng.permutation(samples)  # in the order of the scales, draws of two metrics would not be independent
        return Draws(np.concatenate(theta)[order], np.concatenate(other)[order])


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


def _fit(values: np.ndarray, variances: np.ndarray, mu: float, u: float, level: float) -> _Fit:
    contestants, tasks = values.shape
    same = np.kron(np.eye(contestants), np.ones((tasks, tasks)))
    on_task = np.kron(np.ones((contestants, contestants)), np.eye(tasks))
    prior = mu * same + u * np.eye(contestants * tasks) + level * on_task
    known = np.isfinite(values).ravel()
    seen, noise = values.ravel()[known], variances.ravel()[known]
    total = prior[np.ix_(known, known)] + np.diag(noise)
    weights = np.linalg.solve(total, prior[known]).T  # all x known
    covariance = prior - weights @ prior[known]
    _, log_determinant = np.linalg.slogdet(total)
    log_likelihood = -0.5 * (float(seen @ np.linalg.solve(total, seen)) + float(log_determinant))
    return _Fit(weights @ seen, covariance, prior, (contestants, tasks), log_likelihood)
