"""Joint posterior of all contestants' values of one metric, with random effects over tasks.

The value of contestant c on task t is `theta[c, t] = level[t] + mu[c] + u[c, t]`. The level of each task has a wide prior
of its own, since all contestants may gain more on one task than on another. The `mu` of the contestants differ by a
multivariate Cauchy distribution; `u` is normal with variance `tau^2 / 2`, so that the difference of two contestants varies
between tasks with standard deviation `tau`, which has a half-Cauchy prior (Gelman 2006). The likelihood is normal. A
statement about tasks like these is judged on the mean over the tasks plus the deviation that the mean over as many other
tasks would have.

Contestants that appear in several comparisons appear once here, so the comparisons' common errors are accounted for.

A claim may be about values elsewhere, such as those of larger models, whose differences have some correlation with the ones
measured (`Posterior.draws`).

>>> import numpy as np
>>> values, variances = np.array([[0.050, 0.052], [0.030, 0.031]]), np.full((2, 2), 1e-6)
>>> model = JointModel(scale=0.01, between=0.004)
>>> draws = model.posterior(values, variances, samples=4000, seed=0)
>>> round(float((draws.over(0, [0, 1]) > draws.over(1, [0, 1])).mean()), 2) > 0.95
True
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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
    """Values, `(contestants, tasks, samples)`."""
    other: np.ndarray
    """Deviations of a contestant on one other task, `(contestants, samples)`."""
    order: np.ndarray
    """Order of the samples in which they are independent of those of another topic; as they stand, their scales rise."""

    def over(self, contestant: int, tasks: Sequence[int]) -> np.ndarray:
        """Return a contestant's value on tasks like some of these, `(samples,)`.

        Args:
            contestant: Index of the contestant.
            tasks: Indices of the tasks.
        """
        values = [self.theta[contestant, task] for task in tasks]
        mean = sum(values[1:], values[0]) / len(tasks)
        found: np.ndarray = mean + self.other[contestant] / np.float32(math.sqrt(len(tasks)))
        return found


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
        nothing = np.full((contestants, tasks), np.nan)
        return self.condition(nothing, np.ones_like(nothing)).draw(samples, seed, 0.0)

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
        """Draw values at one place; see `draws`.

        Args:
            samples: Number of draws.
            seed: Seed of the draws.
            relevance: The correlation, from 0 to 1.

        Returns:
            Means and effects on each task.
        """
        (found,) = self.draws(samples, seed, [relevance])
        return found

    def draws(self, samples: int, seed: int, relevances: Sequence[float]) -> Iterator[Draws]:
        """Draw values at places whose values have some correlation with those measured.

        At the correlation r the values are `r theta + sqrt(1 - r^2) e`, where `e` is drawn from the prior. The likelihood of
        the scales counts with the exponent r, so that nothing is learned of them at 0: there the draws are of the prior.

        All places share the random numbers, so that values change with the correlation alone. The scales are drawn by
        systematic sampling.

        Args:
            samples: Number of draws.
            seed: Seed of the draws.
            relevances: The correlations, from 0 to 1.

        Yields:
            For each correlation, means and effects on each task.
        """
        rng = np.random.default_rng(seed)
        contestants, tasks = self.fits[0].shape
        size = contestants * tasks
        measured, elsewhere = (rng.standard_normal((size, samples), dtype=np.float32) for _ in range(2))
        deviations = rng.standard_normal((contestants, samples), dtype=np.float32)
        at, order = (np.arange(samples) + rng.random(samples)) / samples, rng.permutation(samples)
        likelihoods = np.array([fit.log_likelihood for fit in self.fits])
        for relevance in relevances:
            log = relevance * likelihoods
            ends = np.searchsorted(at, np.cumsum(np.exp(log - logsumexp(log))))
            ends[-1] = samples
            theta, other = np.empty_like(measured), np.empty_like(deviations)
            start = 0
            for fit, between, end in zip(self.fits, self.between, ends, strict=True):
                if end > start:
                    theta[:, start:end] = fit.at(relevance, measured[:, start:end], elsewhere[:, start:end])
                    other[:, start:end] = np.float32(math.sqrt(between)) * deviations[:, start:end]
                start = end
            yield Draws(theta.reshape(contestants, tasks, samples), other, order)


@dataclass(frozen=True)
class _Fit:
    """Normal posterior of all values at one node of the grid."""

    mean: np.ndarray
    covariance: np.ndarray
    prior: np.ndarray
    """Covariance before the measurement."""
    shape: tuple[int, int]
    log_likelihood: float

    def at(self, relevance: float, measured: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
        """Return draws at a place with some correlation, `(contestants * tasks, samples)`.

        Args:
            relevance: The correlation.
            measured: Standard normal numbers, of this shape, for what was measured.
            elsewhere: The same for the rest.
        """
        mean, root = self._measured
        found = np.zeros_like(measured)
        if relevance > 0:
            found = np.float32(relevance) * (mean + root @ measured)
        if relevance < 1:
            found += np.float32(math.sqrt(1 - relevance**2)) * (self._elsewhere @ elsewhere)
        return found

    @cached_property
    def _measured(self) -> tuple[np.ndarray, np.ndarray]:
        return self.mean[:, None].astype(np.float32), _root(self.covariance)

    @cached_property
    def _elsewhere(self) -> np.ndarray:
        return _root(self.prior)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return the symmetric square root of a covariance, in single precision: it changes little if the covariance does."""
    eigenvalues, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root: np.ndarray = (vectors * np.sqrt(np.maximum(eigenvalues, 0)) @ vectors.T).astype(np.float32)
    return root


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
