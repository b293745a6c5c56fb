"""Worker processes on this machine that run trials, and what happens when one of them is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from adapterlab.lab.setup import Setup
from adapterlab.lab.training import run
from adapterlab.lab.trial import Outcome, Trial

LOSSES = 3
"""How often a trial may take its worker with it before that is its outcome."""
_PLAIN = Setup()


class LocalPool:
    """Runs trials in `workers` processes, one for each core if not said, each set up by `setup`."""

    def __init__(self, workers: int | None = None, setup: Setup = _PLAIN) -> None:
        self._setup = setup
        self.workers = workers or max(1, (os.cpu_count() or 1) // setup.threads)
        self._pool = self._fresh()
        self._running: dict[Future[Outcome], Trial] = {}
        self._lost: Counter[Trial] = Counter()

    def submit(self, trials: Sequence[Trial]) -> None:
        """Put trials in line."""
        for trial in trials:
            self._running[self._pool.submit(run, trial)] = trial

    def __iter__(self) -> Iterator[tuple[Trial, Outcome]]:
        """The outcomes as they come, until nothing is in line; more may be submitted meanwhile.

        A trial whose worker was lost is tried again; after `LOSSES` losses that is its outcome. What raises an error of
        its own raises it here.
        """
        while self._running:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            lost = []
            for future in done:
                trial = self._running.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    lost.append(trial)
                else:
                    yield trial, outcome
            if lost:
                yield from self._recover(lost)

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that are up."""
        return list(self._pool._processes or {})

    def close(self) -> None:
        """End the workers at once; what they had in hand is lost."""
        workers = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()

    def _fresh(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.workers,
            multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(os.getpid(), self._setup),
        )

    def _recover(self, lost: list[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        # A broken pool fails every trial in it, and does not say which one broke it: all that were handed to it are tried
        # again, one worker's worth at a time would be slower and no fairer.
        lost += self._running.values()
        self._running.clear()
        self.close()
        self._pool = self._fresh()
        suspects = lost[: self.workers]
        for trial in suspects:
            self._lost[trial] += 1
        for trial in lost:
            if self._lost[trial] >= LOSSES:
                note = f"{LOSSES} workers were lost while they ran it (killed, or out of memory)"
                yield trial, Outcome("failed", {}, (), 0, 0.0, 0.0, note)
            else:
                self.submit([trial])


def _begin(driver: int, setup: Setup) -> None:
    """Make a process ready to run trials: it leaves Ctrl-C to its driver, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setup.enter()

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
