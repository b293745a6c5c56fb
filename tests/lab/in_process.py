"""An executor that runs trials in the test's own process, for tests that need no worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Finished, Outcome, Trial

ENVIRONMENT = {"python": "3.11", "device": "cpu"}


@dataclass
class InProcess:
    """Runs trials one after another, in the order in which they were submitted."""

    run: Callable[[Trial], Outcome]
    """Returns the outcome of a trial."""
    wall_seconds: float | None = 2.5
    """Time that each trial is reported to have taken."""
    submitted: list[Trial] = field(default_factory=list)
    """Every trial so far."""
    closed: bool = False
    limit: TimeLimit | None = None
    """Time limits, which the scheduler tells what trials have taken."""

    def __post_init__(self) -> None:
        self._queue: deque[Trial] = deque()

    def submit(self, trials: Sequence[Trial]) -> None:
        self.submitted += trials
        self._queue.extend(trials)

    def __iter__(self) -> Iterator[Finished]:
        while self._queue:
            trial = self._queue.popleft()
            yield Finished(trial, self.run(trial), ENVIRONMENT, self.wall_seconds)

    def running(self) -> Sequence[Trial]:
        return list(self._queue)[:1]

    def close(self) -> None:
        self.closed = True


def use(patch: pytest.MonkeyPatch, executor: InProcess | None = None) -> list[InProcess]:
    """Let `run_study` and `tune` run trials in this process.

    Args:
        patch: Restores the real executor at the end.
        executor: The executor of every study; a new one that trains if None.

    Returns:
        The executors that were started, filled as studies are run.
    """
    started: list[InProcess] = []

    def start(limits: Limits, resolved: ResolvedStudy, limit: TimeLimit, save_to: str = "") -> InProcess:
        config = replace(resolved.worker_config(), save_to=save_to)
        started.append(executor or InProcess(Runner(config).run))
        started[-1].limit = limit
        return started[-1]

    patch.setattr("adapterlab.lab.run.scheduler.executor_for", start)
    patch.setattr("adapterlab.tuning.workers.executor_for", start)
    return started
