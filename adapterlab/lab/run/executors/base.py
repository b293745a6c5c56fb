"""What the driver asks of whoever runs its trials: here, on a cluster, or sharded over several devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

from adapterlab.lab.trial.batched import shared
from adapterlab.lab.trial.environment import environment
from adapterlab.lab.trial.spec import Finished, Outcome, Trial

LOSSES = 3
"""How often a trial may take its worker with it before that is its outcome."""
Job = tuple[Trial, ...]
"""Trials that run in one go on one worker."""


class Executor(Protocol):
    """Runs trials in any order.

    A trial whose worker was lost (killed, out of memory, stopped at its time limit) is tried again; after `LOSSES`
    losses that is its outcome.
    """

    def submit(self, trials: Sequence[Trial]) -> None:
        """Put trials in line."""
        ...

    def __iter__(self) -> Iterator[Finished]:
        """The trials as they end, until nothing is in line; more may be submitted meanwhile.

        What a trial raises on its own is raised here.
        """
        ...

    def in_hand(self) -> Sequence[Trial]:
        """The trials that workers are at, as far as that is known."""
        ...

    def close(self) -> None:
        """End all workers at once; what they had in hand is lost."""
        ...


class Losses:
    """How often each trial has lost its worker."""

    def __init__(self) -> None:
        self._count: Counter[Trial] = Counter()

    def attempts(self, trial: Trial) -> int:
        """The number of the try that is now under way."""
        return self._count[trial] + 1

    def count(self, trial: Trial, why: str) -> Finished | None:
        """One more loss; the failure to record if that was the last."""
        self._count[trial] += 1
        if self._count[trial] < LOSSES:
            return None
        outcome = Outcome("failed", {}, (), 0, 0.0, 0.0, f"{LOSSES} times {why}")
        return Finished(trial, outcome, environment(), attempts=LOSSES)


def jobs(trials: Sequence[Trial], lanes: int) -> list[Job]:
    """The trials in as few jobs as may be, where at most `lanes` may share one."""
    if lanes == 1:
        return [(trial,) for trial in trials]
    groups: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(shared(trial) or trial, []).append(trial)
    return [tuple(group[i : i + lanes]) for group in groups.values() for i in range(0, len(group), lanes)]
