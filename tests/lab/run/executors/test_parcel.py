"""The files that are sent to the nodes of a cluster, and their paths on a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.input_files import stamp_of
from adapterlab.lab.run.executors.ray_parcel import Parcel
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.tasks import load_file
from adapterlab.tasks.base import Task
from adapterlab.tasks.parts import FileData

TASK = """
from adapterlab.tasks.text import CompletionTask

class Sent(CompletionTask):
    name = "{name}"
    title = "Sent"
    explanation = "A task with a scorer."
    metric = "python:{scorer}.score"

    def completions(self, part):
        return []

    def fingerprint(self):
        return "sent"
"""


@pytest.fixture
def defined(monkeypatch):
    """Define tasks for one test, on the scheduler's machine and on a node."""
    monkeypatch.setattr(Task, "registry", dict(Task.registry))

    def load(path: Path, name: str) -> Task:
        load_file(path)
        return Task.registry[name]()

    return load


def test_data_folders_scorers_and_task_files_keep_their_names(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "rows").mkdir(parents=True)
    there.mkdir()
    (here / "rows" / "a.jsonl").write_text("{}")
    (here / "own.py").write_text("def score(): ...")
    data = FileData("mine", str(here / "rows"), metric=f"python:{here / 'own'}.score")
    parcel = Parcel.of(WorkerConfig(data=(data,)))
    (moved,) = parcel.unpacked(there).data
    assert Path(moved.train).name == "rows"
    assert (Path(moved.train) / "a.jsonl").read_text() == "{}"
    assert moved.metric.endswith("own.score")
    assert Path(f"{moved.metric.removeprefix('python:').removesuffix('.score')}.py").read_text() == "def score(): ..."


def test_the_scorer_of_a_task_file_stands_beside_it(tmp_path, defined):
    (tmp_path / "scorers").mkdir()
    scorer = tmp_path / "scorers" / "sent.py"
    scorer.write_text("def score(): ...")
    file = tmp_path / "sent_task.py"
    file.write_text(TASK.format(name="sent_here", scorer="scorers.sent"))
    task = defined(file, "sent_here")
    stamp = stamp_of(scorer)
    config = WorkerConfig(task_files=(str(file),), inputs=(stamp,))
    unpacked = Parcel.of(config, {task.name: task}).unpacked(tmp_path / "node")
    (there,) = map(Path, unpacked.task_files)
    there.write_text(there.read_text().replace("sent_here", "sent_there"))  # a node has a registry of its own
    found = defined(there, "sent_there").scorer
    assert found is not None
    assert Path(found.file).read_text() == "def score(): ..."
    assert tmp_path / "node" in Path(found.file).parents
    assert [Path(s.path) for s in unpacked.inputs] == [Path(found.file)]


def test_a_scorer_elsewhere_cannot_be_sent(tmp_path, defined):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "apart.py").write_text("def score(): ...")
    file = tmp_path / "tasks" / "apart_task.py"
    file.write_text(TASK.format(name="sent_apart", scorer="../apart"))
    task = defined(file, "sent_apart")
    with pytest.raises(AdapterlabError, match=r"apart.py cannot be sent to the cluster: put the scorer into .*tasks"):
        Parcel.of(WorkerConfig(task_files=(str(file),)), {task.name: task})
