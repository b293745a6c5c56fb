"""Send what a Ray worker needs: its settings, and the contents of the files of adapters, tasks and data that they name.

>>> from tempfile import mkdtemp
>>> file = Path(mkdtemp()) / "mine.py"
>>> _ = file.write_text("# an adapter")
>>> parcel = Parcel.of(WorkerConfig(adapter_files=(str(file),)))
>>> unpacked = parcel.unpacked(Path(mkdtemp()))  # on a node that has no such file
>>> Path(unpacked.adapter_files[0]).read_text()
'# an adapter'
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.input_files import FileStamp
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.resources import PACKAGE
from adapterlab.tasks.answer_metrics import PYTHON, scorer_of
from adapterlab.tasks.base import Task


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
