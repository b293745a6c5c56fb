"""Run trials on a Ray cluster: each is a Ray task with its resources, and its outcome is fetched as soon as it is ready.

The package itself and the files that define adapters, tasks and data are sent to the nodes. A model in a folder must be at
the same path on every node.

>>> with _killed_after(60.0):  # in a worker
...     sum(range(5))
10
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.input_files import InputFiles
from adapterlab.lab.run.executors.base import Job, LostWorkers, jobs
from adapterlab.lab.run.executors.ray_head import HeadWatch
from adapterlab.lab.run.executors.ray_parcel import Parcel
from adapterlab.lab.run.executors.scratch import scratch_folder
from adapterlab.lab.run.executors.worker import perform, portable, start
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.trial import suspension
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Finished, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.resources import PACKAGE
from adapterlab.tasks.base import Task

PAUSE = 0.05
"""Seconds between two calls of `ray.wait`, which returns at once if this machine's node has ended."""
SHUTDOWN = 15.0
"""Seconds that disconnecting may take, which takes forever if the cluster does not answer."""


class RayCluster:
    """Runs trials on a Ray cluster. If its head is lost, iterating over it raises an `AdapterlabError`.

    Args:
        address: `HOST:PORT`, or `auto` for the cluster that this machine is part of.
        config: Settings of every worker; a Ray task takes `config.threads` cores.
        tasks: By name, the tasks of the trials.
        limit: Time limit of each trial.
        lanes: Trials that may share one pass.
        device: `auto` for a GPU if the cluster has any, `cuda` to require one, `cpu` for none.

    Raises:
        AdapterlabError: If Ray is not installed, nothing answers at the address, or there is no GPU where one is required.
    """

    def __init__(
        self,
        address: str,
        config: WorkerConfig,
        tasks: Mapping[str, Task],
        limit: TimeLimit,
        lanes: int = 1,
        device: str = "auto",
    ) -> None:
        self._ray, self.limit, self._lanes, self._losses = _connect(address), limit, lanes, LostWorkers()
        self._tasks = tasks
        gpus = 1 if device != "cpu" and self._ray.cluster_resources().get("GPU") else 0
        if device == "cuda" and not gpus:
            self.close()
            raise AdapterlabError(f"limits.device is cuda, but the cluster at {address} has no GPU: give auto or cpu")
        parcel = Parcel.of(replace(config, device="cuda" if gpus else "cpu"), tasks)
        InputFiles(config.inputs).check()  # what was sent is what the trials are named by
        self._device = torch.device(parcel.config.device)
        self._parcel = self._ray.put(parcel)
        self._perform = self._ray.remote(num_cpus=config.threads, num_gpus=gpus, max_retries=0)(_perform)
        self._running: dict[object, Job] = {}
        node = self._ray.get_runtime_context().get_node_id()
        self._head = HeadWatch(
            lambda: any(each["Alive"] for each in self._ray.nodes() if each["NodeID"] == node), address
        )

    def submit(self, trials: Sequence[Trial]) -> None:
        """Queue trials; the cluster runs as many at once as it has resources for.

        Args:
            trials: The trials to run.
        """
        for job in jobs(trials, self._tasks, self._lanes):
            self._submit(job)

    def _submit(self, job: Job) -> None:
        seconds = sum(self.limit.of(trial) for trial in job)
        self._running[self._perform.remote(self._parcel, job, seconds)] = job

    def __iter__(self) -> Iterator[Finished]:
        """Yield trials as they finish: see `Executor`."""
        errors = self._ray.exceptions
        while self._running:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=suspension.TICK)
            if not ready:
                self._head.check()
                time.sleep(PAUSE)
                continue
            ref = ready[0]
            job = self._running.pop(ref)
            try:
                answer = self._ray.get(ref)
            except errors.RayTaskError:
                raise
            except (errors.RuntimeEnvSetupError, errors.TaskUnschedulableError) as error:
                raise AdapterlabError(
                    f"the cluster cannot run a trial: {str(error).strip().splitlines()[0]}"
                ) from error
            except errors.RayError:
                self._head.confirm()  # the trial is not the cause if the cluster is lost
                yield from self._lose(job)
                continue
            if isinstance(answer, BaseException):
                raise answer
            for finished in answer:
                yield finished._replace(attempts=self._losses.attempts(finished.trial))

    def running(self) -> Sequence[Trial]:
        """Return nothing: the cluster does not tell which of its tasks have started."""
        return ()

    def close(self) -> None:
        """Disconnect from the cluster, which ends the trials that it is running."""
        if (head := getattr(self, "_head", None)) is not None:  # none if the cluster has no GPU
            head.end()
        thread = threading.Thread(target=self._ray.shutdown, daemon=True)
        thread.start()
        thread.join(SHUTDOWN)
        if thread.is_alive():
            atexit.unregister(self._ray.shutdown)  # it would wait again

    def _lose(self, job: Job) -> Iterator[Finished]:
        why = "its worker was lost while it ran (killed, out of memory, or stopped at its time limit)"
        for trial in job:
            failure = self._losses.add(trial, why, self._device)
            if failure is None:
                self._submit((trial,))
            else:
                yield failure


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise AdapterlabError("--cluster needs Ray: pip install 'adapterlab[cluster]'") from error
    try:
        _check_reachable(address)
        ray.init(
            address,
            runtime_env={"py_modules": [str(PACKAGE)]},
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="adapterlab",
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise AdapterlabError(
            f"no Ray cluster answers at {address} ({str(error).strip().splitlines()[0]}): start one with ray start --head"
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise `OSError` if nothing answers at the address; Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


_started: list[tuple[TemporaryDirectory[str], Runner]] = []
"""The folder with this process's files, and its runner; a Ray worker serves one scheduler and keeps them."""


def _perform(parcel: Parcel, job: Job, seconds: float) -> list[Finished] | Exception:
    """Run a job in a worker of the cluster; the process is killed if it takes longer than `seconds`."""
    try:
        if not _started:
            folder = scratch_folder()
            _started.append((folder, start(parcel.unpacked(Path(folder.name)))))
        with _killed_after(seconds):
            return perform(_started[0][1], job)
    except Exception as error:
        return portable(error)


@contextmanager
def _killed_after(seconds: float) -> Iterator[None]:
    """Kill this process if the block takes longer than some seconds, without those that it is suspended for."""
    command = [sys.executable, "-I", suspension.__file__, str(os.getpid()), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE):  # its input is closed at the end, or with this process
        yield
