"""Locks, links, deletions and damage in the folder of a run lose no trial and no other file, and give one line each."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

import adapterlab
from adapterlab.errors import AdapterlabError, AdapterlabWarning
from adapterlab.files import write_text
from adapterlab.lab.ledger import store
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.executors.scratch import remove_orphans, scratch_folder
from adapterlab.lab.trial.spec import Finished
from adapterlab.tuning.winner import CARD, refuse_foreign
from tests.lab.run.test_contest import bowl, outcome, run
from tests.lab.tiny import save_study


@pytest.fixture
def finished():
    first, second = run(bowl(1e-2))[1][0][:2]
    return [Finished(trial, outcome(1.0), {}) for trial in (first, second)]


def test_a_run_that_is_refused_changes_nothing_of_the_one_that_runs(tmp_path):
    folder = tmp_path / "results"
    with Ledger(folder / "ledger.sqlite").sole_writer():
        (folder / "study.json").write_text("of the first run")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(AdapterlabError, match="another run is writing"):
            adapterlab.run(save_study(tmp_path), out=folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_tuning_that_is_refused_changes_nothing_of_the_one_that_runs(tmp_path):
    save_study(tmp_path)
    folder = tmp_path / "results"
    with Ledger(folder / "ledger.sqlite").sole_writer():
        (folder / "plan.json").write_text("of the first run")
        rows = [{"text": f"{i} and {i + 1} are numbers"} for i in range(200)]
        with pytest.raises(AdapterlabError, match="another run is writing"):
            adapterlab.tune(tmp_path / "model", rows, out=folder, time="40s")
        assert (folder / "plan.json").read_text() == "of the first run"


def test_a_lock_or_a_partial_file_that_is_a_link_leaves_its_target_alone(tmp_path, finished):
    other = tmp_path / "other.txt"
    other.write_text("precious")
    folder = tmp_path / "results"
    ledger = Ledger(folder / "ledger.sqlite")
    for name in ("ledger.partial", "study.json.partial", "ledger.running"):
        (folder / name).symlink_to(other)
    with ledger.sole_writer():
        ledger.note_running([finished[0].trial])
        assert ledger.running()
    write_text(folder / "study.json", "{}")
    (folder / "ledger.lock").unlink()
    (folder / "ledger.lock").symlink_to(other)
    with (
        pytest.raises(AdapterlabError, match=r"ledger.lock cannot be locked \(it is a symbolic link\)"),
        ledger.sole_writer(),
    ):
        pass
    assert other.read_text() == "precious"


@pytest.mark.parametrize("again", [False, True])
def test_a_ledger_that_is_deleted_or_replaced_is_said_at_once_and_kept(again, tmp_path, finished):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record(finished[0])
    ledger.path.unlink()
    if again:
        Ledger(ledger.path)  # and with it, the log of the old one
    with pytest.raises(AdapterlabError, match=r"was deleted or replaced .* trials are kept in (.*): move"):
        ledger.record(finished[1])
    (kept,) = tmp_path.glob("ledger.rescued-*.sqlite")
    assert again or Ledger(kept).outcome(finished[0].trial) == outcome(1.0)


def test_a_folder_that_is_removed_is_said(tmp_path, finished):
    ledger = Ledger(tmp_path / "results" / "ledger.sqlite")
    ledger.record(finished[0])
    for path in list((tmp_path / "results").iterdir()):
        path.unlink()
    (tmp_path / "results").rmdir()
    with pytest.raises(AdapterlabError, match="its 1 trials could not be kept, since its folder is gone"):
        ledger.record(finished[1])


def test_a_file_that_cannot_be_written_gets_its_own_remedy(tmp_path, finished):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger._db.execute("PRAGMA query_only = 1")
    with pytest.raises(AdapterlabError, match=r"readonly database.*make the file and its folder writable"):
        ledger.record(finished[0])


def test_a_lock_of_another_program_is_waited_for_and_named(tmp_path, finished, monkeypatch):
    monkeypatch.setattr(store, "LOCKED_SECONDS", 0.2)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with closing(sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(1.0, lambda: other.execute("COMMIT")).start()
        with pytest.warns(AdapterlabWarning, match="is locked by another program: waiting") as said:
            ledger.record(finished[0])
        assert len(said) == 1
        assert ledger.outcome(finished[0].trial) == outcome(1.0)

        monkeypatch.setattr(store, "WAIT_SECONDS", 0.0)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AdapterlabError, match=r"locked.*end the other program that has the file open"):
            ledger.record(finished[1])


@pytest.mark.parametrize("value", ["{", "[]", "null", '{"status": 3}', '{"scores": 1}'])
def test_a_row_that_is_damaged_is_named(value, tmp_path, finished):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record(finished[0])
    ledger._db.execute("UPDATE trials SET outcome = ?", (value,))
    name = finished[0].trial.id
    message = f"the row of trial {name} is damaged .* `adapterlab retry {tmp_path} --trial {name}`"
    with pytest.raises(AdapterlabError, match=message):
        ledger.outcome(finished[0].trial)
    with pytest.raises(AdapterlabError, match=message):
        list(ledger)
    assert ledger.statuses() == {name: "damaged"}


def test_the_temporary_folder_of_a_process_that_was_killed_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import tempfile, os, time\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "from adapterlab.lab.run.executors.scratch import scratch_folder\n"
        "folder = scratch_folder()\nprint(folder.name, flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    left = child.stdout.readline().strip()
    remove_orphans()
    assert os.path.isdir(left), "its owner is alive"  # noqa: PTH112
    child.kill()
    child.wait()
    child.stdout.close()
    (tmp_path / "adapterlab-of-a-user").mkdir()
    own = scratch_folder()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [own.name.rpartition("/")[2], "adapterlab-of-a-user"]
    )
    own.cleanup()


def test_a_folder_named_winner_that_is_not_ours_is_kept(tmp_path):
    save_study(tmp_path)
    theirs = tmp_path / "results" / "winner"
    theirs.mkdir(parents=True)
    (theirs / "thesis.txt").write_text("precious")
    rows = [{"text": f"{i} and {i + 1} are numbers"} for i in range(200)]
    started = time.monotonic()
    with pytest.raises(
        AdapterlabError, match="winner exists already and is not the winner of a tuning: give another --out"
    ):
        adapterlab.tune(tmp_path / "model", rows, out=tmp_path / "results", time="40s")
    assert time.monotonic() - started < 20
    assert (theirs / "thesis.txt").read_text() == "precious"
    (theirs / CARD).write_text("{}")
    refuse_foreign(theirs)
