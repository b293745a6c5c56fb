"""Run trials on a Ray cluster: each is a Ray task with its resources, and its outcome is fetched as soon as it is ready.

The package itself and the files that define adapters, tasks and data are sent to the nodes. A model in a folder must be at
the same path on every node.

>>> from tempfile import mkdtemp
>>> file = Path(mkdtemp()) / "mine.py"
>>> _ = file.write_text("# an adapter")
>>> parcel = Parcel.of(WorkerConfig(adapter_files=(str(file),)))
>>> unpacked = parcel.unpacked(Path(mkdtemp()))  # on a node that has no such file
>>> Path(unpacked.adapter_files[0]).read_text()
'# an adapter'
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

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.input_files import FileStamp, InputFiles
from adapterlab.lab.run.executors.base import Job, LostWorkers, jobs
from adapterlab.lab.run.executors.scratch import scratch_folder
from adapterlab.lab.run.executors.worker import perform, portable, start
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Finished, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.resources import PACKAGE
from adapterlab.tasks.answer_metrics import PYTHON, scorer_of
from adapterlab.tasks.base import Task


class RayCluster:
    """Runs trials on a Ray cluster.

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
        parcel = Parcel.of(replace(config, device="cuda" if gpus else "cpu"))
        InputFiles(config.inputs).check()  # what was sent is what the trials are named by
        self._device = torch.device(parcel.config.device)
        self._parcel = self._ray.put(parcel)
        self._perform = self._ray.remote(num_cpus=config.threads, num_gpus=gpus, max_retries=0)(_perform)
        self._running: dict[object, Job] = {}

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
        self._ray.shutdown()

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


@dataclass(frozen=True)
class Parcel:
    """Worker settings together with the files and folders that they name, for nodes that lack these files."""

    config: WorkerConfig
    contents: Mapping[str, Mapping[str, bytes]]
    """By path on the scheduler's machine, the contents by path within the folder, or by `.` for a single file."""

    @classmethod
    def of(cls, config: WorkerConfig) -> Parcel:
        """Return settings with the contents of the files and folders that they name.

        Args:
            config: Settings of a worker.
        """
        named = [*config.adapter_files, *config.task_files, *(str(path) for data in config.data for path in data.paths)]
        scorers = [scorer_of(data.metric) for data in config.data]
        named += [scorer.file for scorer in scorers if scorer is not None]
        return cls(config, {name: _read(Path(name)) for name in named})

    def unpacked(self, folder: Path) -> WorkerConfig:
        """Write the files to a folder.

        Args:
            folder: An empty folder on the node.

        Returns:
            The settings with the new paths.
        """
        places = {}
        for i, (name, files) in enumerate(self.contents.items()):
            root = folder / str(i) / Path(name).name
            for part, content in files.items():
                (root / part).parent.mkdir(parents=True, exist_ok=True)
                (root / part).write_bytes(content)
            places[name] = str(root)

        def moved(name: str | None) -> str | None:
            return name and places[str(Path(name))]

        config = self.config
        return replace(
            config,
            adapter_files=tuple(places[name] for name in config.adapter_files),
            task_files=tuple(places[name] for name in config.task_files),
            inputs=tuple(_moved(stamp, places) for stamp in config.inputs if not _in_package(stamp)),
            data=tuple(
                replace(
                    d,
                    train=places[str(Path(d.train))],
                    eval=moved(d.eval),
                    ood=moved(d.ood),
                    keep=moved(d.keep),
                    metric=_moved_metric(d.metric, places),
                )
                for d in config.data
            ),
        )


def _moved(stamp: FileStamp, places: Mapping[str, str]) -> FileStamp:
    """Return the stamp of a file's copy on this node; files that were not sent are at the same path."""
    path = Path(stamp.path)
    for name, place in places.items():
        if path == Path(name) or Path(name) in path.parents:
            return replace(stamp, path=str(Path(place) / path.relative_to(name)))
    return stamp


def _moved_metric(metric: str, places: Mapping[str, str]) -> str:
    """Return a metric with the file of its scorer on this node."""
    scorer = scorer_of(metric)
    return metric if scorer is None else f"{PYTHON}{Path(places[scorer.file]).with_suffix('')}.{scorer.function}"


def _in_package(stamp: FileStamp) -> bool:
    """Return True for a source file of this package: the nodes have a copy of it."""
    return PACKAGE in Path(stamp.path).parents


def _read(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {".": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


_started: list[tuple[TemporaryDirectory[str], Runner]] = []
"""The folder with this process's files, and its runner; a Ray worker serves one scheduler and keeps them."""


def _perform(parcel: Parcel, job: Job, seconds: float) -> list[Finished] | Exception:
    """Run a job in a worker of the cluster; the process is ended if it takes longer than `seconds`."""
    try:
        if not _started:
            folder = scratch_folder()
            _started.append((folder, start(parcel.unpacked(Path(folder.name)))))
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            return perform(_started[0][1], job)
        finally:
            faulthandler.cancel_dump_traceback_later()
    except Exception as error:
        return portable(error)
