"""A file by whose content trials are named must not change while a study runs: the run stops with a line that names it."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.input_files import InputFiles, stamps_below
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.executors.ray_parcel import Parcel
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.run.scheduler import Progress, run_study
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Trial
from tests.lab.tiny import save_model
from tests.tasks.user_files import texts, write

ADAPTER = '''
"""A gain."""
from dataclasses import dataclass
from adapterlab.adapters import LinearAdapter, State, Theme
import {sibling}

@dataclass(frozen=True)
class Changing(LinearAdapter):
    name = "{name}"
    title = "A gain"
    theme = Theme.GAIN
    claim = "None."
    paper = "https://example.org"

    def init(self, weight, context):
        return State({{"gain": context.zeros(weight.shape[1])}})

    def weight(self, state, weight, strength=1.0):
        return weight * (1 + {sibling}.FACTOR * strength * state["gain"])
'''


def study_of(folder: Path) -> Path:
    """A study of an adapter, a module that it imports, rows and a model that are all the user's own files."""
    name = f"changing_{abs(hash(folder)) % 10**8}"
    (folder / f"factor_of_{name}.py").write_text("FACTOR = 1.0\n")
    (folder / "mine.py").write_text(textwrap.dedent(ADAPTER.format(name=name, sibling=f"factor_of_{name}")))
    (folder / "rows").mkdir()
    write(folder / "rows" / "a.jsonl", texts(40))
    model = save_model(folder / "model")
    path = folder / "study.toml"
    path.write_text(
        f"""name = "changed"\nmodel = "{model}"\ntasks = ["own"]\nreference = "{name}"\nadapter_files = ["mine.py"]
full_ft = false\nfull_ft_reason = "seconds count"
[training]\nsteps = 8\nbatch = 2\nlength = 32\nprecision = "float32"\n[tuning]\nregret_sample = 0
[report]\nwindows = 4\n[limits]\nworkers = 1\n[[data]]\nname = "own"\ntrain = "rows"
[[contestants]]\nadapter = "{name}"\n"""
    )
    return path


def trial_of(resolved: ResolvedStudy) -> Trial:
    return resolved.trial("own", resolved.study.contestants[0].build(), "all-linear", 1e-3, 1, 2, reported=False)


@pytest.fixture(scope="module")
def resolved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    yield resolve(load_study(study_of(folder), trust=True))
    patch.undo()


@pytest.fixture
def folder(resolved):
    """The study's folder, put back as it was after the test."""
    root = Path(resolved.study.adapter_files[0]).parent
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    yield root
    for path in [path for path in root.rglob("*") if path.is_file()]:
        if path not in before:
            path.unlink()
    for path, content in before.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def append(text: str):
    return lambda path: path.write_text(path.read_text() + text if path.exists() else text)


CHANGES = {
    "mine.py": append("\nX = 1\n"),
    "factor_of_*.py": lambda path: path.write_text("FACTOR = 2.0\n"),
    "rows/a.jsonl": append(json.dumps({"text": "one more row for this task"}) + "\n"),
    "rows/b.jsonl": append(json.dumps({"text": "one more row for this task"}) + "\n"),
    "model/chat_template.jinja": append("{{ messages }}"),
    "model/tokenizer_config.json": append("\n"),
    "model/model.safetensors": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\1"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_trial_runs_once_a_file_has_changed(resolved, folder, name):
    runner = Runner(resolved.worker_config())
    assert runner.run(trial_of(resolved)).status == "ok"
    path = next(folder.glob(name), folder / name)
    new = not path.exists()
    CHANGES[name](path)
    expected = str(path.parent if new else path)
    for run in (lambda: runner.run(trial_of(resolved)), lambda: Runner(resolved.worker_config())):
        with pytest.raises(AdapterlabError, match="has changed since this study read it") as caught:
            run()
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_named(resolved, folder):
    (folder / "rows" / "a.jsonl").unlink()
    with pytest.raises(AdapterlabError, match=r"rows.* (has changed|is gone) since this study read it"):
        Runner(resolved.worker_config())


def test_a_change_while_the_trial_runs_is_noticed_at_its_end(resolved, folder):
    runner = Runner(resolved.worker_config())
    with pytest.raises(AdapterlabError, match=r"a\.jsonl has changed"):
        runner.run(trial_of(resolved), lambda handle: CHANGES["rows/a.jsonl"](folder / "rows" / "a.jsonl"))


def test_a_file_that_is_written_again_as_it_was_is_the_same(resolved, folder):
    runner = Runner(resolved.worker_config())
    for path in (folder / "mine.py", folder / "rows" / "a.jsonl", folder / "model" / "model.safetensors"):
        path.write_bytes(path.read_bytes())
        os.utime(path, (1, 1))
    append("\n# a comment\n")(folder / "mine.py")
    assert runner.run(trial_of(resolved)).status == "ok"


def test_a_study_that_starts_again_reads_the_new_rows(resolved, folder):
    CHANGES["rows/a.jsonl"](folder / "rows" / "a.jsonl")
    again = resolve(resolved.study)
    assert trial_of(again).id != trial_of(resolved).id
    assert Runner(again.worker_config()).run(trial_of(again)).status == "ok"


def test_files_that_are_sent_to_a_node_are_checked_there(resolved, folder, tmp_path):
    config = Parcel.of(resolved.worker_config()).unpacked(tmp_path)
    moved = [stamp for stamp in config.inputs if str(tmp_path) in stamp.path]
    assert {Path(stamp.path).name for stamp in moved} == {"mine.py", "rows", "a.jsonl"}
    InputFiles(config.inputs).check()
    append("\n")(Path(config.data[0].train) / "a.jsonl")
    with pytest.raises(AdapterlabError, match=r"a\.jsonl has changed"):
        InputFiles(config.inputs).check()


def test_an_unchanged_file_is_not_read_again(tmp_path, monkeypatch):
    write(tmp_path / "rows.jsonl", texts(3))
    files = InputFiles(stamps_below([tmp_path]))
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a file was read"))
    files.check()


def test_a_run_stops_and_records_nothing_more(resolved, folder, tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def edit(progress: Progress) -> None:
        if progress.trials == 2:
            CHANGES["rows/a.jsonl"](folder / "rows" / "a.jsonl")

    with pytest.raises(AdapterlabError, match=r"a\.jsonl has changed since this study read it"):
        run_study(prepare(resolved.study), ledger, watch=edit)
    assert len(ledger) <= 3  # the trial that ran meanwhile may have ended before the change
