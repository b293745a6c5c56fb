"""How long a trial may take before it counts as hanging."""

from __future__ import annotations

from adapterlab.lab.trial.spec import Trial

UNMEASURED = 60.0
"""Seconds for a step while nothing has been measured."""
SLACK = 20.0
"""How many times longer than the slowest trial so far, step for step, a trial may take."""
LEAST, LEAST_UNMEASURED = 120.0, 3600.0
"""Seconds that every trial has: the model may still have to be loaded, a large weight to be decomposed."""


class TimeLimit:
    """A trial's time limit in seconds: `fixed` if that is given, or else by its steps and what others took."""

    def __init__(self, fixed: float | None = None) -> None:
        self._fixed = fixed
        self._slowest: float | None = None
        self._longest = 0.0

    def learn(self, trial: Trial, wall_seconds: float) -> None:
        """Take in how long a trial took from its start to its scores."""
        self._longest = max(self._longest, wall_seconds)
        if trial.steps:
            self._slowest = max(self._slowest or 0.0, wall_seconds / trial.steps)

    def of(self, trial: Trial) -> float:
        """The limit of one trial."""
        if self._fixed is not None:
            return self._fixed
        if self._slowest is None:
            return max(LEAST_UNMEASURED, UNMEASURED * trial.steps)
        return max(LEAST, SLACK * self._slowest * trial.steps, SLACK * self._longest if not trial.steps else 0.0)
