"""Worker processes of a tuning, started once: the same ones time the contestants and then run the study.

>>> Workers().close()  # nothing was started
"""

from __future__ import annotations

from collections.abc import Sequence

from adapterlab.lab.run.executors import Executor, executor_for
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.trial.spec import Finished, Trial


class Workers:
    """The worker processes of a tuning.

    Args:
        save_to: Folder for trained adapters of reported runs; empty to save none.
    """

    def __init__(self, save_to: str = "") -> None:
        self._save_to = save_to
        self._executor: Executor | None = None
        self._settings: object = None

    def start(self, limits: Limits, resolved: ResolvedStudy, limit: TimeLimit) -> Executor:
        """Return the running executor, or a new one if none runs with these settings.

        Args:
            limits: Hardware that trials may use.
            resolved: The study.
            limit: Time limit of each trial.
        """
        settings = limits, resolved.worker_config()
        if self._executor is None or self._settings != settings:
            self.close()
            self._executor, self._settings = executor_for(limits, resolved, limit, self._save_to), settings
        self._executor.limit = limit
        return self._executor

    def run(self, limits: Limits, resolved: ResolvedStudy, trials: Sequence[Trial]) -> dict[Trial, Finished]:
        """Run trials that are not recorded, as many at a time as there are workers.

        Args:
            limits: Hardware that trials may use.
            resolved: The study.
            trials: The trials.

        Returns:
            By trial, its result.
        """
        executor = self.start(limits, resolved, TimeLimit(limits.trial_seconds))
        executor.submit(trials)
        return {finished.trial: finished for finished in executor}

    def close(self) -> None:
        """End all workers."""
        if self._executor is not None:
            self._executor.close()
        self._executor = None
