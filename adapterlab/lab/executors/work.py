"""What a worker does: run the trials of one job, and say how long each took."""

from __future__ import annotations

import time

from adapterlab.lab import sharded, training
from adapterlab.lab.environment import environment
from adapterlab.lab.executors.base import Finished, Job
from adapterlab.lab.setup import current


def perform(job: Job) -> list[Finished]:
    """Run a job in this process."""
    run = sharded.run if current().ranks > 1 else training.run
    finished = []
    for trial in job:
        started = time.monotonic()
        outcome = run(trial)
        finished.append(Finished(trial, outcome, environment(), time.monotonic() - started))
    return finished
