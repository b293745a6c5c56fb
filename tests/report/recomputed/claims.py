"""The Bayes factors and the credences of claims, by a finer grid and other draws than the product's.

The model is that of docs/statistics.md, section *Claims*: contestant c has `level[t] + mu[c] + u[c, t]` on task t, with a
wide prior of the levels. Differences of `mu` are Cauchy, those of `u` between two contestants are normal with a standard
deviation that is half-Cauchy. The values that a claim is about have a correlation with those measured, the relevance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import minimize

from tests.report.recomputed.report import Recomputed, versus
from tests.report.recomputed.runs import FROZEN, SMALLEST, TASKS

DRAWS, NODES = 100_000, 24


@dataclass(frozen=True)
class Claim:
    """A linear statement about values of which larger ones are better."""

    metric: str
    weights: Mapping[str, float]
    tasks: tuple[str, ...]
    margin: float
    equivalent: bool = False


def read(test: Mapping[str, object]) -> Claim:
    """A claim from its test as verdict.json has it."""
    metric, tasks = str(test["in"]), tuple(test["on"])
    if "reaches" in test:
        return Claim(metric, {str(test["who"]): 1.0, str(test["of"]): -float(test["reaches"])}, tasks, 0.0)
    if "equivalent" in test:
        return Claim(metric, {str(test["equivalent"]): 1.0, str(test["to"]): -1.0}, tasks, float(test["within"]), True)
    by = SMALLEST if test["by"] is None else float(test["by"])
    return Claim(metric, {str(test["better"]): 1.0, str(test["than"]): -1.0}, tasks, by)


class Joint:
    """Draws of all contestants of one metric."""

    def __init__(self, found: Recomputed, metric: str, claims: Sequence[Claim], seed: int) -> None:
        self.names = list(dict.fromkeys(name for claim in claims for name in claim.weights))
        self._rng = np.random.default_rng(seed)
        self.values, self.variances = (np.zeros((len(self.names), len(TASKS))) for _ in range(2))
        for t, task in enumerate(TASKS):
            self.values[:, t] = [_improvement(found, name, task, metric) for name in self.names]
            self.variances[:, t] = _split(self._pairs(found, metric, task))

    def _pairs(self, found: Recomputed, metric: str, task: str) -> np.ndarray:
        """The variance of each difference on a task, as wide as its t distribution."""
        pairs = np.zeros((len(self.names), len(self.names)))
        for i, j in itertools.combinations(range(len(self.names)), 2):
            effect = found.estimate(versus(self.names[i], self.names[j], metric), [task])
            variance = effect.error**2 * (effect.df / (effect.df - 2) if effect.df > 2 else 3.0)
            pairs[i, j] = pairs[j, i] = max(variance, (SMALLEST / 50) ** 2)
        return pairs

    def draw(self, weight: float) -> np.ndarray:
        """Draws of the values on tasks, `(draws, contestants, tasks)`, and of the deviation elsewhere as another column."""
        at = (np.arange(NODES) + 0.5) / NODES
        mus = (2 * SMALLEST) ** 2 / 2 * stats.invgamma.ppf(at, 0.5, scale=0.5)
        us = (0.8 * SMALLEST * stats.halfcauchy.ppf(at)) ** 2 / 2
        count, tasks = len(self.names), len(TASKS)
        nodes, logs = [], []
        for mu, u in itertools.product(mus, us):
            prior = mu * np.kron(np.eye(count), np.ones((tasks, tasks))) + u * np.eye(count * tasks)
            prior += (100 * 2 * SMALLEST) ** 2 * np.kron(np.ones((count, count)), np.eye(tasks))
            if weight == 0:
                nodes.append((np.zeros(count * tasks), prior, u))
                logs.append(0.0)
                continue
            total = prior + np.diag(self.variances.ravel())
            gain = weight * prior @ np.linalg.inv(total)  # of values with this correlation to those that were measured
            nodes.append((gain @ self.values.ravel(), prior - weight * gain @ prior, u))
            zero = np.zeros(count * tasks)
            logs.append(weight * stats.multivariate_normal.logpdf(self.values.ravel(), zero, total))
        shares = np.exp(np.array(logs) - max(logs))
        found = []
        for (mean, covariance, u), n in zip(nodes, self._rng.multinomial(DRAWS, shares / shares.sum()), strict=True):
            if n:
                values = self._rng.multivariate_normal(mean, covariance, n, method="eigh", check_valid="ignore")
                other = self._rng.normal(0, math.sqrt(u), (n, count, 1))
                found.append(np.concatenate([values.reshape(n, count, tasks), other], axis=2))
        return self._rng.permutation(np.concatenate(found))  # metrics are independent, their scales too

    def holds(self, draws: np.ndarray, claim: Claim) -> np.ndarray:
        """In which draws a claim holds: for the mean over its tasks and the deviation of as many others."""
        at = [TASKS.index(task) for task in claim.tasks]
        mean = draws[:, :, at].mean(axis=2) + draws[:, :, -1] / math.sqrt(len(at))
        total = sum(weight * mean[:, self.names.index(name)] for name, weight in claim.weights.items())
        return np.abs(total) <= claim.margin if claim.equivalent else total > claim.margin


def update(
    found: Recomputed, claims: Mapping[str, Claim], credences: Mapping[str, float], relevance: float
) -> dict[str, tuple[float, float]]:
    """By claim, the Bayes factor and the credence after."""
    tables = {weight: np.zeros((DRAWS, len(claims)), dtype=bool) for weight in (0.0, 1.0, relevance)}
    for seed, metric in enumerate(dict.fromkeys(claim.metric for claim in claims.values())):
        joint = Joint(found, metric, [claim for claim in claims.values() if claim.metric == metric], seed)
        for weight, table in tables.items():
            draws = joint.draw(weight)
            for i, claim in enumerate(claims.values()):
                if claim.metric == metric:
                    table[:, i] = joint.holds(draws, claim)
    prior, full, tempered = (tables[weight].astype(float) for weight in (0.0, 1.0, relevance))
    odds = [(table.mean(axis=0) / (1 - table.mean(axis=0))) for table in (prior, full)]
    goal = np.array([credences[claim] for claim in claims])

    def distance(exponents: np.ndarray) -> tuple[float, np.ndarray]:
        log = prior @ exponents
        shares = np.exp(log - log.max())
        return math.log(shares.mean()) + log.max() - exponents @ goal, shares @ prior / shares.sum() - goal

    exponents = minimize(distance, np.zeros(len(goal)), jac=True, method="BFGS").x
    shares = np.exp(tempered @ exponents)
    after = shares @ tempered / shares.sum()
    return {claim: (float(odds[1][i] / odds[0][i]), float(after[i])) for i, claim in enumerate(claims)}


def _improvement(found: Recomputed, name: str, task: str, metric: str) -> float:
    own, before = found.runs.values(name, task, metric).mean(), 0.0
    if metric != "forgetting":
        before = found.runs.values(FROZEN, task, metric).iloc[0]
    return float(before - own)


def _split(pairs: np.ndarray) -> np.ndarray:
    """The variances of single contestants whose sums are nearest to those of the pairs, by least squares."""
    count = len(pairs)
    if count == 2:
        return np.full(2, pairs[0, 1] / 2)
    at = list(itertools.combinations(range(count), 2))
    design = np.array([[float(k in pair) for k in range(count)] for pair in at])
    own = np.linalg.lstsq(design, np.array([pairs[pair] for pair in at]), rcond=None)[0]
    return np.maximum(own, 0.1 * pairs.sum() / 2 / (count - 1) / count)
