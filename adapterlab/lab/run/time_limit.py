"""Time limits of trials, derived from the times of finished trials.

>>> trial = Trial("embedded", "1f", "prose", "2a", '{"name": "lora"}', "all-linear", lr=1e-3, seed=1, steps=40, batch=4,
...               length=128, parts=("test",), windows=8, curve_every=0, code="3c")
>>> limit = TimeLimit()
>>> limit.learn(trial, wall_seconds=80.0)
>>> limit.of(trial)
1600.0
"""

from __future__ import annotations

from adapterlab.lab.trial.spec import Trial

UNMEASURED = 60.0
"""Seconds allowed for a step while no trial has finished."""
SLACK = 20.0
"""Multiple of the time for a step of the slowest trial so far that is allowed for a step."""
LEAST, LEAST_UNMEASURED = 120.0, 3600.0
"""Seconds allowed at least for a trial, after and before the first one finished; loading a model may take long."""


class TimeLimit:
    """Time limits of a study's trials.

    Args:
        fixed: Limit of every trial in seconds; if None, limits follow from the trials' steps and the times of others.
    """

    def __init__(self, fixed: float | None = None) -> None:
        self._fixed = fixed
        self._slowest: float | None = None
        self._longest = 0.0
        self._with_geometry: float | None = None

    def learn(self, trial: Trial, wall_seconds: float) -> None:
        """Take the time of a finished trial into account.

        Args:
            trial: The trial.
            wall_seconds: Time from its start to its scores.
        """
        self._longest = max(self._longest, wall_seconds)
        if trial.geometry:  # most of its time may be that of the geometry, which does not grow with the steps
            self._with_geometry = max(self._with_geometry or 0.0, wall_seconds)
        elif trial.steps:
            self._slowest = max(self._slowest or 0.0, wall_seconds / trial.steps)

    def of(self, trial: Trial) -> float:
        """Return the limit of a trial in seconds.

        Args:
            trial: The trial.
        """
        if self._fixed is not None:
            return self._fixed
        if self._slowest is None:
            return max(LEAST_UNMEASURED, UNMEASURED * trial.steps)
        # Generating answers takes a time of its own, which the frozen model's trial has too.
        answers = SLACK * self._longest if trial.metric or not trial.steps else 0.0
        geometry = 0.0
        if trial.geometry:
            geometry = LEAST_UNMEASURED if self._with_geometry is None else SLACK * self._with_geometry
        return max(LEAST, SLACK * self._slowest * trial.steps, answers, geometry)
