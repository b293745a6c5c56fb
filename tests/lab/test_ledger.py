"""The ledger keeps what it was given, and says what is wrong with a file that is none."""

from __future__ import annotations

import sqlite3

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger import Ledger
from tests.lab.test_contest import bowl, outcome, run


@pytest.fixture
def trial():
    return run(bowl(1e-2))[1][0][0]


def test_a_trial_is_there_once(tmp_path, trial):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record(trial, outcome(1.0), {"python": "3"})
    ledger.record(trial, outcome(2.0), {"python": "3"})
    again = Ledger(tmp_path / "ledger.sqlite")
    assert len(again) == 1
    assert again.outcome(trial) == outcome(1.0)
    assert next(iter(again)) == (trial, outcome(1.0), {"python": "3"})


@pytest.mark.parametrize("damage", [lambda data: b"not a ledger" * 200, lambda data: data[:4096] + b"\xff" * 4096])
def test_a_damaged_ledger_is_named_and_kept(tmp_path, trial, damage):
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.record(trial, outcome(1.0), {})
    ledger.close()
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(AdapterlabError, match=r"ledger\.sqlite is no ledger that can be read"):
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
