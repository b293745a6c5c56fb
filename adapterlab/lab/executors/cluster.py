"""A Ray cluster: each trial is a task with its resources, and the results come to the driver as they are ready.

The driver's own code goes along, and so do the files that define adapters and tasks. A model in a folder must lie at the
same path on every node.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.lab.executors.base import Finished, Job, Losses, jobs
from adapterlab.lab.executors.work import perform, portable
from adapterlab.lab.limits import TimeLimit
from adapterlab.lab.setup import Setup
from adapterlab.lab.trial import Trial


class RayCluster:
    """Runs trials on the cluster at `address`.

    A task takes `setup.threads` cores, and a GPU where the cluster has any, unless `device` is `"cpu"`.
    Raises `AdapterlabError` if Ray is not installed or nothing answers at the address.
    """

    def __init__(self, address: str, setup: Setup, limit: TimeLimit, lanes: int = 1, device: str = "auto") -> None:
        self._ray, self._limit, self._lanes, self._losses = _connected(address), limit, lanes, Losses()
        gpus = 1 if device != "cpu" and self._ray.cluster_resources().get("GPU") else 0
        if device == "cuda" and not gpus:
            self.close()
            raise AdapterlabError(f"limits.device is cuda, and the cluster at {address} has no GPU: give auto or cpu")
        parcel = _Parcel.of(replace(setup, device="cuda" if gpus else "cpu"))
        self._parcel = self._ray.put(parcel)
        self._perform = self._ray.remote(num_cpus=setup.threads, num_gpus=gpus, max_retries=0)(_perform)
        self._running: dict[Any, Job] = {}

    def submit(self, trials: Sequence[Trial]) -> None:
        """Put trials in line; the cluster takes as many at a time as it has room for."""
        for job in jobs(trials, self._lanes):
            self._submit(job)

    def _submit(self, job: Job) -> None:
        seconds = sum(self._limit.of(trial) for trial in job)
        self._running[self._perform.remote(self._parcel, job, seconds)] = job

    def __iter__(self) -> Iterator[Finished]:
        """As `Executor` says."""
        errors = self._ray.exceptions
        while self._running:
            ((ref, *_), _) = self._ray.wait(list(self._running), num_returns=1)
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
                yield from self._lost(job)
                continue
            if isinstance(answer, BaseException):
                raise answer
            for finished in answer:
                yield finished._replace(attempts=self._losses.attempts(finished.trial))

    def close(self) -> None:
        """Leave the cluster, which ends this driver's tasks."""
        self._ray.shutdown()

    def _lost(self, job: Job) -> Iterator[Finished]:
        why = "its worker was lost while it ran (killed, out of memory, or stopped at its time limit)"
        for trial in job:
            failure = self._losses.count(trial, why)
            if failure is None:
                self._submit((trial,))
            else:
                yield failure


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise AdapterlabError("--cluster needs Ray: pip install 'adapterlab[cluster]'") from error
    package = str(Path(adapterlab.__file__).parent)
    try:
        _knock(address)
        ray.init(
            address,
            runtime_env={"py_modules": [package]},
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="adapterlab",
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise AdapterlabError(
            f"no Ray cluster answers at {address} ({str(error).strip().splitlines()[0]}): start one with ray start --head"
        ) from error
    return ray


def _knock(address: str) -> None:
    """See whether anybody is at the address, for Ray itself asks for minutes; raises `OSError` if not."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@dataclass(frozen=True)
class _Parcel:
    """A setup with the files that it names, for a node that has none of them."""

    setup: Setup
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, setup: Setup) -> _Parcel:
        names = (*setup.adapter_files, *setup.task_files)
        return cls(setup, {name: Path(name).read_bytes() for name in names})

    def unpacked(self, folder: Path) -> Setup:
        """The setup, with its files in `folder`."""
        places = {}
        for i, (name, content) in enumerate(self.files.items()):
            places[name] = folder / str(i) / Path(name).name
            places[name].parent.mkdir(parents=True)
            places[name].write_bytes(content)
        return replace(
            self.setup,
            adapter_files=tuple(str(places[name]) for name in self.setup.adapter_files),
            task_files=tuple(str(places[name]) for name in self.setup.task_files),
        )


_entered: list[_Parcel] = []
"""What this process has entered; a worker of Ray's serves one driver."""


def _perform(parcel: _Parcel, job: Job, seconds: float) -> list[Finished] | Exception:
    """Run a job in a worker of the cluster; one that takes longer ends its process, whatever it is doing."""
    try:
        if not _entered:
            with TemporaryDirectory(prefix="adapterlab-") as folder:
                parcel.unpacked(Path(folder)).enter()
            _entered.append(parcel)
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            return perform(job)
        finally:
            faulthandler.cancel_dump_traceback_later()
    except Exception as error:
        return portable(error)
