"""Fits that improve one group of parameters at a time, each in closed form, so that the residual never rises.

>>> halve = lambda x: (x / 2, x / 2)
>>> fit = best_of([1.0, 4.0], halve, Setting(tolerance=0.1))
>>> fit.state, fit.residual, fit.converged
(0.0625, 0.0625, True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from adapterlab.geometry.hypotheses.base import Setting

S = TypeVar("S")


@dataclass(frozen=True)
class Fit(Generic[S]):
    """Parameters after some sweeps."""

    state: S
    """The parameters."""
    residual: float
    """Share of the change's squared norm that is left."""
    converged: bool
    """True if the last sweep lowered the residual by less than the tolerance."""


def best_of(starts: Iterable[S], sweep: Callable[[S], tuple[S, float]], setting: Setting) -> Fit[S]:
    """Return the best fit of several starts.

    Args:
        starts: At least one; the first `setting.starts` are tried for `setting.trial` sweeps, and the best is continued.
        sweep: Improves all parameters once; returns them with the residual.
        setting: Tolerance and bounds.
    """
    tried = [
        _descend(start, float("inf"), sweep, setting.tolerance, setting.trial)
        for start in islice(starts, setting.starts)
    ]
    best = min(tried, key=lambda fit: fit.residual)
    if best.converged:
        return best
    return _descend(best.state, best.residual, sweep, setting.tolerance, max(1, setting.sweeps - setting.trial))


def _descend(state: S, residual: float, sweep: Callable[[S], tuple[S, float]], tolerance: float, sweeps: int) -> Fit[S]:
    for _ in range(sweeps):
        state, lower = sweep(state)
        if residual - lower < tolerance:
            return Fit(state, lower, converged=True)
        residual = lower
    return Fit(state, residual, converged=False)
