"""Worker processes on this machine, and what happens when one of them is lost or hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.executors.base import LOSSES, Job, Losses, jobs
from adapterlab.lab.run.executors.worker import perform, portable
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.trial.spec import Finished, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig

START_SECONDS = 600.0
"""What a worker has to get ready, before the time of its first job runs."""
ENTERED = "entered"
"""What a process says once it is ready."""
# Workers are forked from a process that has imported what they need and done nothing else, so that many, or one anew,
# cost no second import; forking the driver itself would take its threads' locks along.
_PROCESSES = get_context("forkserver")
_PROCESSES.set_forkserver_preload(["adapterlab.lab.trial.train"])
_HERE = ((WorkerConfig(),),)


class LocalPool:
    """Runs trials on workers that may be lost one by one.

    There is a worker for each member of `crews`; a worker is one process, or several that share a model between them, and
    each process enters its own `WorkerConfig`.
    """

    def __init__(
        self, crews: Sequence[Sequence[WorkerConfig]] = _HERE, limit: TimeLimit | None = None, lanes: int = 1
    ) -> None:
        self._limit, self._lanes = limit or TimeLimit(), lanes
        self._workers = [_Worker(setups) for setups in crews]
        self._line: deque[Job] = deque()
        self._losses = Losses()
        self._unready = 0

    def submit(self, trials: Sequence[Trial]) -> None:
        """Put trials in line; those for whom there is a worker begin at once."""
        self._line.extend(jobs(trials, self._lanes))
        self._hand_out()

    def __iter__(self) -> Iterator[Finished]:
        """As `Executor` says."""
        while busy := [worker for worker in self._workers if worker.job]:
            pause = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            ready = set(wait([thing for worker in busy for thing in worker.awaited], pause))
            for worker in busy:
                ended: list[Finished] = []
                if not ready.isdisjoint(worker.awaited):
                    ended = list(self._answered(worker, ready))
                elif time.monotonic() > worker.deadline:
                    ended = list(self._lost(worker, "it ran past its time limit and was stopped"))
                self._hand_out()  # before the driver looks at what has ended
                yield from ended

    def in_hand(self) -> Sequence[Trial]:
        """As `Executor` says."""
        return [trial for worker in self._workers for trial in worker.job]

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that are up."""
        return [pid for worker in self._workers for pid in worker.pids]

    def close(self) -> None:
        """As `Executor` says."""
        for worker in self._workers:
            worker.kill()

    def _hand_out(self) -> None:
        for worker in self._workers:
            if self._line and not worker.job:
                job = self._line.popleft()
                worker.begin(job, sum(self._limit.of(trial) for trial in job))

    def _answered(self, worker: _Worker, ready: Container[Any]) -> Iterator[Finished]:
        try:
            answer = worker.answer(ready)
        except (EOFError, OSError):
            yield from self._lost(worker, "its worker was lost while it ran (killed, or out of memory)")
            return
        self._unready = 0
        for finished in answer or ():
            yield finished._replace(attempts=self._losses.attempts(finished.trial))

    def _lost(self, worker: _Worker, why: str) -> Iterator[Finished]:
        job, ready = worker.job, worker.entered
        worker.kill()
        if not ready:  # no fault of the trial's
            self._unready += 1
            if self._unready == LOSSES:
                raise AdapterlabError(
                    f"{LOSSES} workers in a row ended before they were ready: is there memory for them?"
                )
            self._line.appendleft(job)
            return
        for trial in job:
            failure = self._losses.count(trial, why)
            if failure is None:
                self._line.appendleft((trial,))
            else:
                yield failure


class _Worker:
    """The processes that run one job after another. They start with their first job, and anew after they were killed."""

    def __init__(self, setups: Sequence[WorkerConfig]) -> None:
        self._setups = setups
        self._processes: list[BaseProcess] = []
        self._connections: list[Connection[Any, Any]] = []
        self._answers: dict[int, list[Finished]] = {}
        self._folder: TemporaryDirectory[str] | None = None
        self._seconds = 0.0
        self.entered = False
        """Whether its processes have been ready."""
        self.job: Job = ()
        self.deadline = 0.0

    @property
    def awaited(self) -> list[Connection[Any, Any]]:
        """What becomes ready when a process answers or dies."""
        return [connection for i, connection in enumerate(self._connections) if i not in self._answers]

    @property
    def pids(self) -> list[int]:
        """Of the processes that are up."""
        return [process.pid for process in self._processes if process.pid]

    def begin(self, job: Job, seconds: float) -> None:
        """Hand out a job that may take so many seconds."""
        if not self._processes:
            self._start()
        self._answers, self.job, self._seconds = {}, job, seconds
        self.deadline = time.monotonic() + seconds + (0 if self.entered else START_SECONDS)
        for connection in self._connections:
            with suppress(OSError):  # a dead process is noticed when its answer is read
                connection.send(job)

    def answer(self, ready: Container[Any]) -> list[Finished] | None:
        """The first process's answer once all have answered.

        Raises `EOFError` or `OSError` if one is dead, and what one raised.
        """
        for i, connection in enumerate(self._connections):
            if i not in self._answers and connection in ready:
                answer = connection.recv()
                if isinstance(answer, BaseException):
                    raise answer
                if answer == ENTERED:
                    self.entered, self.deadline = True, time.monotonic() + self._seconds
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
        self._processes, self._connections, self._folder, self.job, self.entered = [], [], None, (), False

    def _start(self) -> None:
        setups = list(self._setups)
        if len(setups) > 1:
            self._folder = TemporaryDirectory(prefix="adapterlab-")
            meeting = str(Path(self._folder.name) / "meeting")
            setups = [
                replace(setup, rank=rank, ranks=len(setups), meeting=meeting) for rank, setup in enumerate(setups)
            ]
        for setup in setups:
            ours, theirs = Pipe()
            process = _PROCESSES.Process(target=_serve, args=(theirs, setup), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)


def _serve(driver: Connection[Any, Any], setup: WorkerConfig) -> None:
    """Run jobs until the driver is gone. Ctrl-C is left to the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    try:
        setup.enter()
        driver.send(ENTERED)
        while True:
            driver.send(perform(driver.recv()))
    except EOFError:
        return
    except Exception as error:
        driver.send(portable(error))


def _watch(parent: int) -> None:
    """End this process when its parent is gone, as that is when the driver is, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
