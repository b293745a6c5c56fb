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
from adapterlab.lab.run.executors.base import Job, Losses, jobs
from adapterlab.lab.run.executors.worker import perform, portable
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.trial.spec import Finished, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.tasks.parts import FileData


class RayCluster:
    """Runs trials on the cluster at `address`.

    A task takes `setup.threads` cores, and a GPU where the cluster has any, unless `device` is `"cpu"`.
    Raises `AdapterlabError` if Ray is not installed or nothing answers at the address.
    """

    def __init__(
        self, address: str, setup: WorkerConfig, limit: TimeLimit, lanes: int = 1, device: str = "auto"
    ) -> None:
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

    def in_hand(self) -> Sequence[Trial]:
        """Nothing, since the cluster does not say which of its tasks have begun."""
        return ()

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
    """A setup with the files and folders that it names, for a node that has none of them."""

    setup: WorkerConfig
    contents: Mapping[str, Mapping[str, bytes]]
    """By the path on the driver's machine, the files there: by their path in the folder, or by `.` for the file itself."""

    @classmethod
    def of(cls, setup: WorkerConfig) -> _Parcel:
        named = [*setup.adapter_files, *setup.task_files, *(str(path) for data in setup.data for path in data.paths)]
        return cls(setup, {name: _read(Path(name)) for name in named})

    def unpacked(self, folder: Path) -> WorkerConfig:
        """The setup, with its files in `folder`."""
        places = {}
        for i, (name, files) in enumerate(self.contents.items()):
            root = folder / str(i) / Path(name).name
            for part, content in files.items():
                (root / part).parent.mkdir(parents=True, exist_ok=True)
                (root / part).write_bytes(content)
            places[name] = str(root)

        def moved(name: str | None) -> str | None:
            return name and places[str(Path(name))]

        setup = self.setup
        return replace(
            setup,
            adapter_files=tuple(places[name] for name in setup.adapter_files),
            task_files=tuple(places[name] for name in setup.task_files),
            data=tuple(
                FileData(d.name, places[str(Path(d.train))], moved(d.eval), moved(d.ood), moved(d.keep))
                for d in setup.data
            ),
        )


def _read(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {".": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


_unpacked: list[TemporaryDirectory[str]] = []
"""Where this process has unpacked its parcel; a worker of Ray's serves one driver. Data may be read there later."""


def _perform(parcel: _Parcel, job: Job, seconds: float) -> list[Finished] | Exception:
    """Run a job in a worker of the cluster; one that takes longer ends its process, whatever it is doing."""
    try:
        if not _unpacked:
            folder = TemporaryDirectory(prefix="adapterlab-")
            parcel.unpacked(Path(folder.name)).enter()
            _unpacked.append(folder)
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            return perform(job)
        finally:
            faulthandler.cancel_dump_traceback_later()
    except Exception as error:
        return portable(error)
