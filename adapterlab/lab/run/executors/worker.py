r"""The work of a worker process: run the trials of a job, and report outcomes or errors.

>>> portable(ValueError("no"))
RuntimeError('ValueError in a worker: no\n\nValueError: no\n')
"""

from __future__ import annotations

import time
import traceback

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.executors.base import Job
from adapterlab.lab.trial.environment import environment
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Finished
from adapterlab.lab.trial.worker_config import WorkerConfig


def start(config: WorkerConfig) -> Runner:
    """Return a runner for this process, joined to the processes that share its model, if there are any.

    Args:
        config: Settings of this process.

    Raises:
        AdapterlabError: If a file that the settings name cannot be read.
    """
    runner = Runner(config)
    if config.ranks > 1:
        from adapterlab.lab.trial import sharded  # the libraries of distributed training take long to import

        sharded.join(config)
    return runner


def perform(runner: Runner, job: Job) -> list[Finished]:
    """Run a job: several trials in one pass where the method and the memory allow it, else one after another.

    Args:
        runner: Runs the trials in this process.
        job: The trials.

    Returns:
        The finished trials, each with its share of the time.
    """
    started = time.monotonic()
    if len(job) > 1:
        try:
            outcomes = runner.run_batched(job)
        except RuntimeError:
            # The method cannot run under vmap, or memory is too short for all lanes; alone, each may still run.
            return [finished for trial in job for finished in perform(runner, (trial,))]
    else:
        outcomes = [runner.run(job[0])]
    seconds = (time.monotonic() - started) / len(job)
    machine = environment(runner.device)
    return [Finished(trial, outcome, machine, seconds) for trial, outcome in zip(job, outcomes, strict=True)]


def portable(error: Exception) -> Exception:
    """Return an error that can be pickled to the scheduler: a user's error as its message, another with its traceback.

    Args:
        error: The error of a worker.
    """
    if isinstance(error, AdapterlabError):
        return AdapterlabError(str(error))
    if isinstance(error, OSError):
        return error
    trace = "".join(traceback.format_exception(error))
    return RuntimeError(f"{type(error).__name__} in a worker: {error}\n\n{trace}")
