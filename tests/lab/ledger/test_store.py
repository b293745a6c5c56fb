"""The ledger keeps every trial it was given, and names what is wrong with a file that is not a ledger."""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.migrations import STEPS, VERSION
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.trial.spec import Finished, Trial
from tests.lab.disk import make_room, small_disk
from tests.lab.run.test_contest import bowl, outcome, run


@pytest.fixture
def trial():
    return run(bowl(1e-2))[1][0][0]


def test_a_trial_is_there_once(tmp_path, trial):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record(Finished(trial, outcome(1.0), {"python": "3"}))
    ledger.record(Finished(trial, outcome(2.0), {"python": "3"}))
    again = Ledger(tmp_path / "ledger.sqlite")
    assert len(again) == 1
    assert again.outcome(trial) == outcome(1.0)
    assert next(iter(again)) == (trial, outcome(1.0), {"python": "3"})


def test_failures_are_opened_again_beside_numbers_that_are_not_finite(tmp_path, trial):
    """SQLite's functions on JSON refuse a row that holds one."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    odd = dataclasses.replace(outcome(1.0), geometry={"rank": math.nan}, curve=((10, math.inf),))
    ledger.record(Finished(trial, odd, {}))
    failed = dataclasses.replace(trial, seed=trial.seed + 1)
    under = {"limits": json.dumps({"trial_seconds": 5})}
    ledger.record(Finished(failed, dataclasses.replace(odd, status="failed"), under))
    assert ledger.reopen({"trial_seconds": 5}) == 0
    assert ledger.reopen({"trial_seconds": 9}) == 1
    assert [kept for kept, _, _ in ledger] == [trial]


@pytest.mark.parametrize("damage", [lambda data: b"not a ledger" * 200, lambda data: data[:4096] + b"\xff" * 4096])
def test_a_damaged_ledger_is_named_and_kept(tmp_path, trial, damage):
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.record(Finished(trial, outcome(1.0), {}))
    ledger.close()
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(AdapterlabError, match=r"ledger\.sqlite is not a readable ledger"):
        Ledger(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "mine.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes (text)")
    db.close()
    with pytest.raises(AdapterlabError, match="tables of another program"):
        Ledger(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]
    db.close()


def test_a_newer_ledger_is_named(tmp_path):
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    db.executescript("CREATE TABLE trials (id); PRAGMA user_version = 99;")
    db.close()
    with pytest.raises(AdapterlabError, match="version 99"):
        Ledger(tmp_path / "ledger.sqlite")


def test_a_second_writer_is_told_of_the_first(tmp_path):
    first, second = Ledger(tmp_path / "l.sqlite"), Ledger(tmp_path / "l.sqlite")
    with first.sole_writer(), pytest.raises(AdapterlabError, match="another run is writing"), second.sole_writer():
        pass
    with second.sole_writer():
        pass


def test_a_second_writer_may_wait_for_the_first(tmp_path):
    first, second = Ledger(tmp_path / "l.sqlite"), Ledger(tmp_path / "l.sqlite")
    events = []

    def wait_and_enter():
        with second.sole_writer(wait=lambda: events.append("waits")):
            events.append("enters")

    with first.sole_writer():
        thread = threading.Thread(target=wait_and_enter)
        thread.start()
        deadline = time.monotonic() + 10
        while not events and time.monotonic() < deadline:
            time.sleep(0.01)
        assert events == ["waits"]
    thread.join(10)
    assert events == ["waits", "enters"]


# The first version's layout, in its own words.
VERSION_1 = """
CREATE TABLE trials (
    id TEXT PRIMARY KEY,
    trial TEXT NOT NULL,
    outcome TEXT NOT NULL,
    environment TEXT NOT NULL,
    finished TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
OLD_TRIAL = {
    "model": "m", "model_hash": "h", "task": "prose", "data": "d", "adapter": '{"name": "lora"}', "targets": "all-linear",
    "lr": 0.01, "seed": 1, "steps": 60, "batch": 4, "length": 128, "parts": ["validation", "test"], "windows": 48,
    "curve_every": 20, "code": "c",
}  # fmt: skip
OLD_OUTCOME = {
    "status": "ok", "scores": {"validation": [1.0, 0.5], "test": [1.25, 0.25]}, "curve": [[20, 1.5]], "parameters": 8,
    "seconds": 3.0, "attach_seconds": 0.5, "note": "",
}  # fmt: skip


@pytest.fixture
def old(tmp_path):
    """A ledger as the first version wrote it, with one trial."""
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(f"PRAGMA journal_mode = WAL; {VERSION_1}")
        row = ("0123456789abcdef", json.dumps(OLD_TRIAL), json.dumps(OLD_OUTCOME), '{"python": "3.11"}')
        db.execute("INSERT INTO trials (id, trial, outcome, environment) VALUES (?, ?, ?, ?)", row)
    return path


def rows(path: Path):
    with closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return version, db.execute("SELECT id, trial, outcome, environment, finished FROM trials").fetchall()


def test_an_older_ledger_is_brought_up_to_date_and_kept_as_it_was(old, trial):
    before = rows(old)
    ledger = Ledger(old)
    backup = old.with_name("ledger.sqlite.v1.bak")
    assert rows(backup) == before
    assert rows(old) == (VERSION, before[1])
    ((found, result, environment),) = ledger
    assert found.to_json().items() >= (OLD_TRIAL | {"parts": ("validation", "test")}).items()
    assert result.scores == {"validation": (1.0, 0.5), "test": (1.25, 0.25)}
    assert result.rows == {}
    assert environment == {"python": "3.11"}
    ledger.record(Finished(trial, outcome(1.0), {}, 7.5))
    assert Ledger(old).wall_seconds(trial) == 7.5
    assert rows(backup) == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dtype_of_an_older_ledger_is_its_trials_precision(old, dtype):
    with closing(sqlite3.connect(old)) as db, db:
        db.execute("UPDATE trials SET trial = ?", (json.dumps(OLD_TRIAL | {"dtype": dtype}),))
    ((found, _, _),) = Ledger(old)
    assert found.precision == dtype
    assert found.to_json().items() >= (OLD_TRIAL | {"parts": ("validation", "test")}).items()


def test_two_may_open_an_older_ledger_at_once(old):
    both = threading.Barrier(2)

    def open_it(_):
        both.wait()
        return len(Ledger(old))

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(open_it, range(2))) == [1, 1]
    assert rows(old.with_name("ledger.sqlite.v1.bak"))[0] == 1


def test_an_older_ledger_that_cannot_be_brought_up_to_date_stays_as_it_was(old, monkeypatch):
    before = rows(old)
    monkeypatch.setitem(STEPS, 1, (*STEPS[1], "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(AdapterlabError, match="cannot be opened"):
        Ledger(old)
    assert rows(old) == before


def record_all(ledger: Ledger, trials: list[Trial]) -> None:
    for one in trials:
        ledger.record(Finished(one, outcome(1.0), {"pad": "x" * 2000}))


def test_a_full_disk_loses_nothing_that_was_recorded(tmp_path, trial):
    disk = tmp_path / "disk"
    trials = [dataclasses.replace(trial, seed=seed) for seed in range(1000)]
    with small_disk(disk, "400k"):
        ledger = Ledger(disk / "ledger.sqlite")
        with pytest.raises(AdapterlabError, match="could not be recorded") as caught:
            record_all(ledger, trials)
        assert "\n" not in str(caught.value)
        kept = len(ledger)
        assert 0 < kept < len(trials)
        assert f"the {kept} recorded before are kept" in str(caught.value)
        ledger.close()
        make_room(disk, "8m")
        again = Ledger(disk / "ledger.sqlite")
        assert {found for found, _, _ in again} == set(trials[:kept])
        record_all(again, trials)
        assert {found for found, _, _ in again} == set(trials)
        again.close()


def test_a_file_that_may_not_grow_loses_nothing_that_was_recorded(tmp_path, trial):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    trials = [dataclasses.replace(trial, seed=seed) for seed in range(200)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(AdapterlabError, match="could not be recorded"):
            record_all(ledger, trials)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = len(ledger)
    ledger.close()
    assert {found for found, _, _ in Ledger(tmp_path / "ledger.sqlite")} == set(trials[:kept])
