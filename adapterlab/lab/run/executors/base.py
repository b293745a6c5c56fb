"""The interface between the scheduler and an executor, which runs trials on this machine or on a cluster.

>>> trial = Trial("embedded", "1f", "prose", "2a", '{"name": "lora", "rank": 8}', "all-linear", lr=1e-3, seed=1, steps=40,
...               batch=4, length=128, parts=("test",), windows=8, curve_every=0, code="3c")
>>> losses = LostWorkers()
>>> [losses.add(trial, "its worker was killed", torch.device("cpu")) for _ in range(2)]  # tried again
[None, None]
>>> losses.add(trial, "its worker was killed", torch.device("cpu")).outcome.note
'3 times its worker was killed'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from adapterlab.lab.trial.batched import batch_key
from adapterlab.lab.trial.environment import environment
from adapterlab.lab.trial.spec import Finished, Outcome, Trial
from adapterlab.tasks.base import Task

if TYPE_CHECKING:
    from adapterlab.lab.run.time_limit import TimeLimit

MAX_LOSSES = 3
"""Workers that a trial may lose before it is recorded as failed."""
Job = tuple[Trial, ...]
"""Trials that one worker runs together."""


class Executor(Protocol):
    """Runs trials in any order.

    A trial whose worker is lost (killed, out of memory, stopped at its time limit) is tried again; after `MAX_LOSSES` losses
    it is recorded as failed.
    """

    limit: TimeLimit
    """Time limit of each trial; it may be replaced between trials."""

    def submit(self, trials: Sequence[Trial]) -> None:
        """Queue trials.

        Args:
            trials: The trials to run.
        """
        ...

    def __iter__(self) -> Iterator[Finished]:
        """Yield trials as they finish, until the queue is empty; more may be submitted meanwhile.

        An error in the code of a trial is raised here.
        """
        ...

    def running(self) -> Sequence[Trial]:
        """Return the trials that workers are running, as far as that is known."""
        ...

    def close(self) -> None:
        """End all workers at once; the trials that they are running are lost."""
        ...


class LostWorkers:
    """Counts the workers that each trial has lost."""

    def __init__(self) -> None:
        self._count: Counter[Trial] = Counter()

    def attempts(self, trial: Trial) -> int:
        """Return the number of the current attempt at a trial, from 1.

        Args:
            trial: The trial.
        """
        return self._count[trial] + 1

    def add(self, trial: Trial, why: str, device: torch.device) -> Finished | None:
        """Count one more loss.

        Args:
            trial: The trial whose worker was lost.
            why: Reason of the loss, for the record.
            device: Device that the trial ran on, for the record.

        Returns:
            The failure to record, if this was the last attempt; else None.
        """
        self._count[trial] += 1
        if self._count[trial] < MAX_LOSSES:
            return None
        outcome = Outcome("failed", {}, (), 0, 0.0, 0.0, f"{MAX_LOSSES} times {why}")
        return Finished(trial, outcome, environment(device), attempts=MAX_LOSSES)


def jobs(trials: Sequence[Trial], tasks: Mapping[str, Task], lanes: int) -> list[Job]:
    """Group trials into as few jobs as possible.

    Args:
        trials: The trials to run.
        tasks: By name, the tasks of these trials.
        lanes: Trials that may share a job; they must differ only by learning rate and seed.

    Returns:
        The jobs, each for one worker.
    """
    if lanes == 1:
        return [(trial,) for trial in trials]
    groups: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(batch_key(trial, tasks[trial.task]) or trial, []).append(trial)
    return [tuple(group[i : i + lanes]) for group in groups.values() for i in range(0, len(group), lanes)]
