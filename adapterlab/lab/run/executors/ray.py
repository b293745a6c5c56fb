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
import inspect
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        parcel = Parcel.of(replace(config, device="cuda" if gpus else "cpu"), tasks)
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
    """By path on the scheduler's machine, the contents by path below the file's or folder's own parent."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """By path of a scorer that a task file names, the path of that task file: it is put where it stands beside it."""

    @classmethod
    def of(cls, config: WorkerConfig, tasks: Mapping[str, Task] | None = None) -> Parcel:
        """Return settings with the contents of the files and folders that they name.

        Args:
            config: Settings of a worker.
            tasks: By name, the tasks of the trials, for the scorers of those that are defined in `config.task_files`.

        Raises:
            AdapterlabError: If a task's scorer is not in the folder of the task's file, or below it.
        """
        named = [*config.adapter_files, *config.task_files, *(str(path) for data in config.data for path in data.paths)]
        scorers = [scorer_of(data.metric) for data in config.data]
        named += [scorer.file for scorer in scorers if scorer is not None]
        contents = {name: _read(Path(name)) for name in named}
        beside = _scorers_beside(config.task_files, tasks or {})
        for scorer_file, task_file in beside.items():
            contents[task_file] |= {str(_below(scorer_file, task_file)): Path(scorer_file).read_bytes()}
        return cls(config, contents, beside)

    def unpacked(self, folder: Path) -> WorkerConfig:
        """Write the files to a folder.

        Args:
            folder: An empty folder on the node.

        Returns:
            The settings with the new paths.
        """
        places = {}
        for i, (name, files) in enumerate(self.contents.items()):
            root = folder / str(i)
            for part, content in files.items():
                (root / part).parent.mkdir(parents=True, exist_ok=True)
                (root / part).write_bytes(content)
            places[name] = str(root / Path(name).name)
        for scorer_file, task_file in self.beside.items():
            places[scorer_file] = str(Path(places[task_file]).parent / _below(scorer_file, task_file))

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
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


def _scorers_beside(task_files: Sequence[str], tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return the files of the scorers of tasks that are defined in the given files, each with its task's file."""
    defined = {str(Path(name).resolve()): name for name in task_files}
    found = {}
    for task in tasks.values():
        task_file = defined.get(str(Path(inspect.getfile(type(task))).resolve()))
        if task_file is not None and task.scorer is not None:
            found[task.scorer.file] = task_file
    return found


def _below(scorer_file: str, task_file: str) -> Path:
    """Return the path of a scorer below the folder of its task's file."""
    folder = Path(task_file).resolve().parent
    if not Path(scorer_file).is_relative_to(folder):
        raise AdapterlabError(
            f"{scorer_file} cannot be sent to the cluster: put the scorer into {folder}, the folder of its task's file"
        )
    return Path(scorer_file).relative_to(folder)


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
