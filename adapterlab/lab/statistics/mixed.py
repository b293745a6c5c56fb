"""Linear mixed model with known errors: fixed effects, and random effects of groupings, by restricted likelihood.

`y = X b + sum over groupings of u[group] + e`. The effects `u` of a grouping are independent with a common variance, and so
are the deviations of the single values beyond their known errors. The variances maximise the restricted likelihood
(Patterson and Thompson 1971); the fixed effects are those of generalized least squares. An interval that rests on groups has
at most one degree of freedom fewer than there are groups: a variance between two tasks that is estimated as zero is little
evidence that it is zero.

>>> y = np.array([0.010, 0.014, 0.030, 0.033])
>>> fit = fit_mixed(y, np.zeros(4), np.ones((4, 1)), {"task": ["prose", "prose", "restyle", "restyle"]})
>>> round(float(fit.coefficients[0]), 5), round(fit.variances["task"] ** 0.5, 4)
(0.02175, 0.0137)
>>> fit.predict(np.array([1.0]), known_df=100).df
1.0
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from adapterlab.lab.statistics.components import Component, from_components
from adapterlab.lab.statistics.paired import Paired, from_error

REST = "rest"
"""Name of the variance of single values beyond their known errors."""


@dataclass(frozen=True)
class MixedFit:
    """Fitted mixed model."""

    coefficients: np.ndarray
    variances: Mapping[str, float]
    """By grouping, the variance of its effects; `REST` is that of the single values."""
    weights: np.ndarray
    """Coefficients as linear functions of the values, `(coefficients, values)`."""
    errors: np.ndarray
    """Known variance of each value."""
    groups: Mapping[str, np.ndarray]
    """By grouping, the indicators of its groups, `(values, groups)`."""

    def estimate(self, row: np.ndarray, known_df: float) -> Paired:
        """Return a linear function of the fixed effects with its interval.

        Args:
            row: Its coefficients.
            known_df: Degrees of freedom of the known errors.
        """
        return self._interval(row, known_df, fresh=False)

    def predict(self, row: np.ndarray, known_df: float) -> Paired:
        """Return the value to expect of a fresh group of every grouping, with its prediction interval.

        Args:
            row: Fixed part of the value: its coefficients.
            known_df: Degrees of freedom of the known errors.
        """
        return self._interval(row, known_df, fresh=True)

    def _interval(self, row: np.ndarray, known_df: float, *, fresh: bool) -> Paired:
        w = row @ self.weights
        rest, count = self.variances.get(REST, 0.0), self.weights.shape[1]
        free = max(1, count - len(self.coefficients) - sum(z.shape[1] - 1 for z in self.groups.values()))
        parts = [Component(float((w**2 * self.errors).sum()), known_df), Component(float((w**2).sum()) * rest, free)]
        for name, z in self.groups.items():
            shared = float(((w @ z) ** 2).sum()) + (1.0 if fresh else 0.0)
            parts.append(Component(shared * self.variances[name], max(1, z.shape[1] - 1)))
        found = from_components(float(row @ self.coefficients), parts, count)
        resting = [z.shape[1] - 1 for z in self.groups.values() if fresh or float(((w @ z) ** 2).sum()) > 1e-12]
        return from_error(found.mean, found.error, float(min([found.df, *resting])), count)


def fit_mixed(
    y: np.ndarray, errors: np.ndarray, fixed: np.ndarray, groupings: Mapping[str, Sequence[Hashable]]
) -> MixedFit:
    """Fit the model.

    Args:
        y: Values, `(values,)`.
        errors: Known variance of each value.
        fixed: Fixed part, `(values, coefficients)`, of full column rank.
        groupings: By name, the group of each value; those with a single group are left out.

    Returns:
        The fit. The variance of single values is left out if there are too few values to tell it from that of the groups.
    """
    groups = {
        name: np.array([[label == group for group in dict.fromkeys(labels)] for label in labels], dtype=float)
        for name, labels in groupings.items()
        if len(set(labels)) > 1
    }
    layers = {name: z @ z.T for name, z in groups.items()}
    if len(y) - fixed.shape[1] > sum(z.shape[1] - 1 for z in groups.values()):
        layers[REST] = np.eye(len(y))
    unit = max(float(np.var(y)), float(errors.mean()), 1e-18)
    known = np.diag(errors / unit) + 1e-9 * np.eye(len(y))

    def cost(theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the negative logarithm of the restricted likelihood and its gradient."""
        v = known + sum((t * layer for t, layer in zip(theta, layers.values(), strict=True)), np.zeros_like(known))
        inverse = np.linalg.inv(v)
        inner = fixed.T @ inverse @ fixed
        projection = inverse - inverse @ fixed @ np.linalg.solve(inner, fixed.T @ inverse)
        projected = projection @ y
        logs = float(np.linalg.slogdet(v)[1]) + float(np.linalg.slogdet(inner)[1])
        slopes = [
            float((projection * layer).sum()) - float(projected @ layer @ projected) / unit for layer in layers.values()
        ]
        return (logs + float(y @ projected) / unit) / 2, np.array(slopes) / 2

    theta = np.zeros(len(layers))
    if layers:
        starts = [np.full(len(layers), start) for start in (0.02, 0.5)]
        found = [minimize(cost, s, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(layers)) for s in starts]
        theta = min(found, key=lambda result: float(result.fun)).x
    v = known + sum((t * layer for t, layer in zip(theta, layers.values(), strict=True)), np.zeros_like(known))
    inverse = np.linalg.inv(v)
    weights = np.linalg.solve(fixed.T @ inverse @ fixed, fixed.T @ inverse)
    variances = {name: float(t) * unit for name, t in zip(layers, theta, strict=True)}
    return MixedFit(weights @ y, variances, weights, errors, groups)


def spread(fit: MixedFit, grouping: str) -> float:
    """Return the standard deviation between the groups of a grouping; nan if there is only one.

    Args:
        fit: The fit.
        grouping: Name of the grouping.
    """
    return math.sqrt(fit.variances[grouping]) if grouping in fit.variances else math.nan
