"""The ledger: a SQLite file in which a trial is there once, whole, or not at all."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial import Outcome, Trial

VERSION = 1
_TABLE = """
CREATE TABLE trials (
    id TEXT PRIMARY KEY,
    trial TEXT NOT NULL,
    outcome TEXT NOT NULL,
    environment TEXT NOT NULL,
    finished TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) WITHOUT ROWID
"""


class Ledger:
    """The trials of a study.

    Raises `AdapterlabError` for a file that is no ledger, is damaged, or was written by a newer version; the file is
    left as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            found = self._version()
            if found == 0:
                self._create()
                found = self._version()
            (health,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._damaged(str(error)) from error
        if health != "ok":
            raise self._damaged(health)
        if found != VERSION:
            raise AdapterlabError(
                f"{path} is a ledger of version {found}, this program reads version {VERSION}: "
                "give another --out, or use the program that wrote it"
            )

    def _version(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(version)

    def _create(self) -> None:
        """Lay out a new file, unless another process has done so meanwhile."""
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("BEGIN IMMEDIATE")
        if self._db.execute("SELECT 1 FROM sqlite_master").fetchone() and self._version() == 0:
            raise sqlite3.DatabaseError("it holds tables of another program")
        if self._version() == 0:
            for statement in (_TABLE, f"PRAGMA user_version = {VERSION}"):
                self._db.execute(statement)
        self._db.execute("COMMIT")

    def _damaged(self, why: str) -> AdapterlabError:
        return AdapterlabError(
            f"{self.path} is no ledger that can be read ({why}); it was left as it is: move it away, or give another --out"
        )

    def record(self, trial: Trial, outcome: Outcome, environment: dict[str, Any]) -> None:
        """Write one trial; one that is there already stays as it is."""
        row = (trial.id, *(json.dumps(data) for data in (trial.to_json(), outcome.to_json(), environment)))
        self._db.execute("INSERT OR IGNORE INTO trials (id, trial, outcome, environment) VALUES (?, ?, ?, ?)", row)

    def outcome(self, trial: Trial) -> Outcome | None:
        """What came of `trial`, if it was run."""
        row = self._db.execute("SELECT outcome FROM trials WHERE id = ?", (trial.id,)).fetchone()
        return Outcome.from_json(json.loads(row[0])) if row else None

    def __iter__(self) -> Iterator[tuple[Trial, Outcome, dict[str, Any]]]:
        for trial, outcome, environment in self._db.execute(
            "SELECT trial, outcome, environment FROM trials ORDER BY id"
        ).fetchall():
            yield (
                Trial.from_json(json.loads(trial)),
                Outcome.from_json(json.loads(outcome)),
                json.loads(environment),
            )

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM trials").fetchone()
        return int(count)

    @contextmanager
    def sole_writer(self) -> Iterator[None]:
        """Hold the ledger for writing; raises `AdapterlabError` if another run holds it. A dead run holds nothing."""
        with self.path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AdapterlabError(
                    f"another run is writing {self.path}: wait until it has ended, or give another --out"
                ) from error
            yield

    def is_held(self) -> bool:
        """Whether a run is writing the ledger."""
        try:
            with self.path.with_suffix(".lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def close(self) -> None:
        """Close the file."""
        self._db.close()
