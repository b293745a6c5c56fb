"""Worker processes on this machine, replaced when one is lost or runs past its time limit.

>>> pool = LocalPool([(WorkerConfig(),)], {})
>>> pool.running(), pool.worker_pids()  # a worker starts with its first trial
([], [])
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.executors.base import MAX_LOSSES, Job, LostWorkers, jobs
from adapterlab.lab.run.executors.scratch import scratch_folder
from adapterlab.lab.run.executors.worker import perform, portable, start
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.trial.spec import Finished, Trial
from adapterlab.lab.trial.suspension import TICK, Countdown
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.tasks.base import Task

START_SECONDS = 600.0
"""Time that a worker may take to start, before the time of its first job runs."""
READY = "ready"
"""Message of a process that has started."""
Answer: TypeAlias = "list[Finished] | Exception | str"
"""Message of a worker process: the trials of its job, the error that ended it, or `READY`."""
# Workers are forked from a process that has imported what they need and done nothing else, so many workers cost one import.
# Forking the scheduler itself would copy the locks of its threads.
_PROCESSES = get_context("forkserver")
_PROCESSES.set_forkserver_preload(["adapterlab.lab.trial.runner"])


class LocalPool:
    """Runs trials in worker processes of this machine.

    Args:
        crews: For each worker, the settings of its processes: one, or several that share a model.
        tasks: By name, the tasks of the trials.
        limit: Time limit of each trial.
        lanes: Trials that may share one pass.
    """

    def __init__(
        self,
        crews: Sequence[Sequence[WorkerConfig]],
        tasks: Mapping[str, Task],
        limit: TimeLimit | None = None,
        lanes: int = 1,
    ) -> None:
        self.limit, self._lanes, self._tasks = limit or TimeLimit(), lanes, tasks
        self._workers = [_Worker(configs) for configs in crews]
        self._queue: deque[Job] = deque()
        self._losses = LostWorkers()
        self._failed_starts = 0

    def submit(self, trials: Sequence[Trial]) -> None:
        """Queue trials; idle workers start at once.

        Args:
            trials: The trials to run.
        """
        self._queue.extend(jobs(trials, self._tasks, self._lanes))
        self._assign()

    def __iter__(self) -> Iterator[Finished]:
        """Yield trials as they finish: see `Executor`."""
        while busy := [worker for worker in self._workers if worker.job]:
            pause = min(TICK, *(max(0.05, worker.countdown.seconds_left) for worker in busy))
            ready = set(wait([thing for worker in busy for thing in worker.awaited], pause))
            for worker in busy:
                ended: list[Finished] = []
                if not ready.isdisjoint(worker.awaited):
                    ended = list(self._receive(worker, ready))
                elif worker.countdown.tick(worker.pids) <= 0:
                    ended = list(self._lose(worker, "it ran past its time limit and was stopped"))
                self._assign()  # before the scheduler looks at what has ended
                yield from ended

    def running(self) -> Sequence[Trial]:
        """Return the trials that workers are running."""
        return [trial for worker in self._workers for trial in worker.job]

    def worker_pids(self) -> list[int]:
        """Return the process ids of the running workers."""
        return [pid for worker in self._workers for pid in worker.pids]

    def close(self) -> None:
        """End all workers at once; the trials that they are running are lost."""
        for worker in self._workers:
            worker.kill()

    def _assign(self) -> None:
        for worker in self._workers:
            if self._queue and not worker.job:
                job = self._queue.popleft()
                worker.begin(job, sum(self.limit.of(trial) for trial in job))

    def _receive(self, worker: _Worker, ready: Container[object]) -> Iterator[Finished]:
        try:
            answer = worker.answer(ready)
        except (EOFError, OSError):
            yield from self._lose(worker, "its worker was lost while it ran (killed, or out of memory)")
            return
        self._failed_starts = 0
        for finished in answer or ():
            yield finished._replace(attempts=self._losses.attempts(finished.trial))

    def _lose(self, worker: _Worker, why: str) -> Iterator[Finished]:
        job, started = worker.job, worker.started
        worker.kill()
        if not started:  # the trial is not the cause
            self._failed_starts += 1
            if self._failed_starts == MAX_LOSSES:
                raise AdapterlabError(
                    f"{MAX_LOSSES} workers in a row ended before they were ready: give fewer workers, which take less memory"
                )
            self._queue.appendleft(job)
            return
        for trial in job:
            failure = self._losses.add(trial, why, worker.device)
            if failure is None:
                self._queue.appendleft((trial,))
            else:
                yield failure


class _Worker:
    """One or more processes that run one job after another. They start with their first job, and again after a loss."""

    def __init__(self, configs: Sequence[WorkerConfig]) -> None:
        self._configs = configs
        self._processes: list[BaseProcess] = []
        self._connections: list[Connection[Job, Answer]] = []
        self._answers: dict[int, list[Finished]] = {}
        self._folder: TemporaryDirectory[str] | None = None
        self._seconds = 0.0
        self.device = torch.device(configs[0].device)
        self.started = False
        """True once its processes have started."""
        self.job: Job = ()
        self.countdown = Countdown(0.0)
        """Seconds until the worker is stopped."""

    @property
    def awaited(self) -> list[Connection[Job, Answer]]:
        """Connections that become ready when a process answers or dies."""
        return [connection for i, connection in enumerate(self._connections) if i not in self._answers]

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.pid for process in self._processes if process.pid]

    def begin(self, job: Job, seconds: float) -> None:
        """Give the worker a job with a time limit in seconds."""
        if not self._processes:
            self._start()
        self._answers, self.job, self._seconds = {}, job, seconds
        self.countdown = Countdown(seconds + (0 if self.started else START_SECONDS))
        for connection in self._connections:
            with suppress(OSError):  # a dead process is noticed when its answer is read
                connection.send(job)

    def answer(self, ready: Container[object]) -> list[Finished] | None:
        """Return the first process's answer once all have answered; raise `EOFError` or `OSError` if one is dead."""
        for i, connection in enumerate(self._connections):
            if i not in self._answers and connection in ready:
                answer = connection.recv()
                if isinstance(answer, BaseException):
                    raise answer
                if isinstance(answer, str):
                    self.started, self.countdown = True, Countdown(self._seconds)
                else:
                    self._answers[i] = answer
        if len(self._answers) < len(self._connections):
            return None
        self.job = ()
        return self._answers[0]

    def kill(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
        for process, connection in zip(self._processes, self._connections, strict=True):
            process.join()
            connection.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._processes, self._connections, self._folder, self.job, self.started = [], [], None, (), False

    def _start(self) -> None:
        configs = list(self._configs)
        if len(configs) > 1:
            self._folder = scratch_folder()
            rendezvous = str(Path(self._folder.name) / "rendezvous")
            configs = [
                replace(config, rank=rank, ranks=len(configs), rendezvous=rendezvous)
                for rank, config in enumerate(configs)
            ]
        for config in configs:
            ours, theirs = Pipe()
            process = _PROCESSES.Process(target=_serve, args=(theirs, config), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)


def _serve(scheduler: Connection[Answer, Job], config: WorkerConfig) -> None:
    """Run jobs until the scheduler is gone. Ctrl-C is left to the scheduler."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    try:
        runner = start(config)
        scheduler.send(READY)
        while True:
            scheduler.send(perform(runner, scheduler.recv()))
    except EOFError:
        return
    except Exception as error:
        scheduler.send(portable(error))


def _watch(parent: int) -> None:
    """End this process when its parent, the fork server, ends, which it does with the scheduler."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
