"""What a worker does: run the trials of one job, and say how long each took."""

from __future__ import annotations

import time

from adapterlab.lab import training
from adapterlab.lab.environment import environment
from adapterlab.lab.executors.base import Finished, Job


def perform(job: Job) -> list[Finished]:
    """Run a job in this process."""
    finished = []
    for trial in job:
        started = time.monotonic()
        outcome = training.run(trial)
        finished.append(Finished(trial, outcome, environment(), time.monotonic() - started))
    return finished
