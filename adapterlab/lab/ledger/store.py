"""The ledger: a SQLite file in which a trial is there once, whole, or not at all."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.migrations import TABLE, VERSION, migrate, version_of
from adapterlab.lab.trial.spec import Finished, Outcome, Trial


class Ledger:
    """The trials of a study. One that an older version wrote is brought up to date, and kept as it was beside it.

    Raises `AdapterlabError` for a file that is no ledger, is damaged, was written by a newer version, or cannot be
    written; the file is left as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes, self._begun = path.with_suffix(".running"), dict[str, float]()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            if version_of(self._db) == 0:
                self._create()
            (health,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            found = version_of(self._db)
            if health == "ok" and found < VERSION:
                migrate(self._db, path)
        except (sqlite3.OperationalError, OSError) as error:
            raise AdapterlabError(
                f"{path} cannot be opened ({_reason(error)}): see that its folder can be written and has room"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        if health != "ok":
            raise self._damaged(health)
        if found > VERSION:
            raise AdapterlabError(
                f"{path} is a ledger of version {found}, this program reads version {VERSION}: "
                "give another --out, or use the program that wrote it"
            )

    def _create(self) -> None:
        """Lay out a new file, unless another process has done so meanwhile."""
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("BEGIN IMMEDIATE")
        if self._db.execute("SELECT 1 FROM sqlite_master").fetchone() and version_of(self._db) == 0:
            raise sqlite3.DatabaseError("it holds tables of another program")
        if version_of(self._db) == 0:
            for statement in (TABLE, f"PRAGMA user_version = {VERSION}"):
                self._db.execute(statement)
        self._db.execute("COMMIT")

    def _damaged(self, why: str) -> AdapterlabError:
        return AdapterlabError(
            f"{self.path} is no ledger that can be read ({why}); it was left as it is: move it away, or give another --out"
        )

    def record(self, finished: Finished) -> None:
        """Write one trial; one that is there already stays as it is.

        Raises `AdapterlabError` if it cannot be written (the disk is full); what was there is there still.
        """
        trial = finished.trial
        data = (trial.to_json(), finished.outcome.to_json(), finished.environment)
        try:
            self._db.execute(
                "INSERT OR IGNORE INTO trials (id, trial, outcome, environment, wall_seconds, attempts)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (trial.id, *map(json.dumps, data), finished.wall_seconds, finished.attempts),
            )
        except sqlite3.OperationalError as error:
            raise AdapterlabError(
                f"{self.path}: a trial could not be recorded ({error}); the {len(self)} that were are kept: "
                "mend that (free some room), and the same command goes on from there"
            ) from error

    def outcome(self, trial: Trial) -> Outcome | None:
        """What came of `trial`, if it was run."""
        row = self._db.execute("SELECT outcome FROM trials WHERE id = ?", (trial.id,)).fetchone()
        return Outcome.from_json(json.loads(row[0])) if row else None

    def wall_seconds(self, trial: Trial) -> float | None:
        """How long a worker took for `trial`, if that is known."""
        row = self._db.execute("SELECT wall_seconds FROM trials WHERE id = ?", (trial.id,)).fetchone()
        return row[0] if row else None

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
    def sole_writer(self, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the ledger for writing. A dead run holds nothing.

        If another run holds it, `wait` is called and that run is waited for; without `wait`, raises `AdapterlabError`.
        """
        with self.path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if wait is None:
                    raise AdapterlabError(
                        f"another run is writing {self.path}: wait until it has ended (--wait), or give another --out"
                    ) from error
                wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self.note_in_hand(())
                yield
            finally:
                self._notes.unlink(missing_ok=True)

    def note_in_hand(self, trials: Sequence[Trial]) -> None:
        """Say beside the ledger, for whoever asks meanwhile, that these are being run; only the run that holds it may."""
        now = time.time()
        self._begun = {trial.id: self._begun.get(trial.id, now) for trial in trials}
        partial = self._notes.with_suffix(".partial")
        with suppress(OSError):  # a full disk is noticed where it matters
            partial.write_text(json.dumps(self._begun))
            partial.replace(self._notes)

    def in_hand(self) -> dict[str, float]:
        """By trial's id, when the run that holds the ledger began it, in seconds since the epoch; empty if none does."""
        try:
            return dict(json.loads(self._notes.read_text())) if self.is_held() else {}
        except (OSError, ValueError):
            return {}

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


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
