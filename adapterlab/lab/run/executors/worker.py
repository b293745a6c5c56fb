r"""The work of a worker process: run the trials of a job, and report outcomes or errors.

>>> portable(ValueError("no"))
RuntimeError('ValueError in a worker: no\n\nValueError: no\n')
"""

from __future__ import annotations

import traceback
from pathlib import Path

from adapterlab.errors import AdapterlabError, ChangedInputError, ScorerError
from adapterlab.lab.run.executors.base import Job
from adapterlab.lab.trial.environment import environment
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Finished, Outcome, Trial
from adapterlab.lab.trial.suspension import running_seconds
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
    started = running_seconds()
    runner.context(job[0])  # an error here is not the contestant's: of the model, the data or a changed file
    if len(job) > 1:
        try:
            outcomes = runner.run_batched(job)
        except (OSError, ChangedInputError, ScorerError):
            raise
        except Exception:
            # The method cannot run under vmap, or memory is too short for all lanes; alone, each may still run.
            return [finished for trial in job for finished in perform(runner, (trial,))]
    else:
        outcomes = [_outcome(runner, job[0])]
    seconds = (running_seconds() - started) / len(job)
    machine = environment(runner.device)
    return [Finished(trial, outcome, machine, seconds) for trial, outcome in zip(job, outcomes, strict=True)]


def _outcome(runner: Runner, trial: Trial) -> Outcome:
    """Return the outcome of a trial; a contestant that raises an error fails, and the study goes on without it.

    An error of a file, a changed input or the user's scorer is not the contestant's, and ends the study.
    """
    try:
        return runner.run(trial)
    except (OSError, ChangedInputError, ScorerError):
        raise
    except Exception as error:
        return Outcome("failed", {}, (), 0, 0.0, 0.0, last_line(error))


def last_line(error: Exception) -> str:
    """Return the last line of an error's traceback, with the file, the line and the function that raised it.

    >>> try:
    ...     1 / 0
    ... except ZeroDivisionError as error:
    ...     last_line(error).partition(" (")[0]
    'ZeroDivisionError: division by zero'

    Args:
        error: The error.
    """
    if isinstance(error, AdapterlabError):
        return str(error)
    line = " ".join(traceback.format_exception_only(error)[-1].split())
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return line + place


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
