"""What a worker does: run the trials of one job, and say how long each took."""

from __future__ import annotations

import time
import traceback

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.executors.base import Job
from adapterlab.lab.trial import batched, train
from adapterlab.lab.trial.environment import environment
from adapterlab.lab.trial.spec import Finished, Outcome
from adapterlab.lab.trial.worker_config import current


def perform(job: Job) -> list[Finished]:
    """Run a job in this process; trials in one pass where that can be done, one after another where not."""
    if len(job) > 1:
        started = time.monotonic()
        try:
            outcomes = batched.run(job)
        except RuntimeError:
            # A method that vmap cannot take, or more lanes than the memory holds: alone, each may run still.
            return [finished for trial in job for finished in perform((trial,))]
    else:
        started = time.monotonic()
        outcomes = [_run(job)]
    seconds = (time.monotonic() - started) / len(job)
    return [Finished(trial, outcome, environment(), seconds) for trial, outcome in zip(job, outcomes, strict=True)]


def _run(job: Job) -> Outcome:
    (trial,) = job
    if current().ranks > 1:
        from adapterlab.lab.trial import sharded  # the libraries of distributed training take a while to load

        return sharded.run(trial)
    return train.run(trial)


def portable(error: Exception) -> Exception:
    """The error as it can be sent to the driver: a user's mistake as its message, another with where it came from."""
    if isinstance(error, AdapterlabError):
        return AdapterlabError(str(error))
    if isinstance(error, OSError):
        return error
    trace = "".join(traceback.format_exception(error))
    return RuntimeError(f"{type(error).__name__} in a worker: {error}\n\n{trace}")
