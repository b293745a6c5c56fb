"""The ledger: a SQLite file that contains each finished trial once.

A trial is written in one transaction, so it is in the file completely or not at all, whatever stops the program.

>>> from tempfile import TemporaryDirectory
>>> with TemporaryDirectory() as folder:
...     ledger = Ledger(Path(folder) / "ledger.sqlite")
...     print(len(ledger), ledger.is_locked())
0 False
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from adapterlab.errors import AdapterlabError, AdapterlabWarning
from adapterlab.files import write_text
from adapterlab.lab.ledger.migrations import TABLE, VERSION, migrate, version_of
from adapterlab.lab.ledger.origins import Origin, Unused, count_unused, group_by_environment
from adapterlab.lab.ledger.records import Record
from adapterlab.lab.trial.spec import Finished, Outcome, Trial

LIMITS = "limits"
"""Key of a failed trial's environment: the limits that it ran under, as JSON."""
FAILED = '"failed"'
"""Status of a trial that failed, in the JSON of its outcome."""
LOCKED_SECONDS = 5.0
"""Seconds that SQLite waits for another program's lock before a warning."""
WAIT_SECONDS = 300.0
"""Seconds that a trial waits to be recorded while another program has locked the file."""
T = TypeVar("T")


class Ledger:
    """The recorded trials of a study.

    A ledger of an older version is converted to the present one; a copy of the old file is kept beside it.

    Args:
        path: The file. It is created if it does not exist.

    Raises:
        AdapterlabError: If the file is not a ledger, is damaged, was written by a newer version, or cannot be opened. It is
            left unchanged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes, self._started = path.with_suffix(".running"), dict[str, float]()
        self._holds_lock = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=LOCKED_SECONDS, isolation_level=None)
            self._file = _identity(path)
            if version_of(self._db) == 0:
                self._create()
            (health,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            found = version_of(self._db)
            if health == "ok" and found < VERSION:
                migrate(self._db, path)
        except (sqlite3.OperationalError, OSError) as error:
            raise AdapterlabError(
                f"{path} cannot be opened ({_reason(error)}): check that its folder is writable and the disk is not full"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._unreadable(str(error)) from error
        if health != "ok":
            raise self._unreadable(health)
        if found > VERSION:
            raise AdapterlabError(
                f"{path} is a ledger of version {found}, but this program reads version {VERSION}: "
                "choose another folder with --out, or use the program that wrote it"
            )

    def _create(self) -> None:
        """Create the table in a new file, unless another process has done so in the meantime."""
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("BEGIN IMMEDIATE")
        if self._db.execute("SELECT 1 FROM sqlite_master").fetchone() and version_of(self._db) == 0:
            raise sqlite3.DatabaseError("it contains tables of another program")
        if version_of(self._db) == 0:
            for statement in (TABLE, f"PRAGMA user_version = {VERSION}"):
                self._db.execute(statement)
        self._db.execute("COMMIT")

    def _unreadable(self, reason: str) -> AdapterlabError:
        return AdapterlabError(
            f"{self.path} is not a readable ledger ({reason}). It was left unchanged: move it away, or choose another "
            "folder with --out"
        )

    def record(self, finished: Finished) -> None:
        """Write one trial. If the ledger contains the trial already, nothing is changed.

        Args:
            finished: The trial with its outcome and environment.

        Raises:
            AdapterlabError: If it cannot be written, such as on a full disk. The trials recorded before are kept.
        """
        trial = finished.trial
        data = (trial.to_json(), finished.outcome.to_json(), dict(finished.environment))
        self._refuse_if_gone()
        try:
            self._write(
                "INSERT OR IGNORE INTO trials (id, trial, outcome, environment, wall_seconds, attempts)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (trial.id, *map(json.dumps, data), finished.wall_seconds, finished.attempts),
            )
        except sqlite3.OperationalError as error:
            raise AdapterlabError(
                f"{self.path}: a trial could not be recorded ({error}); the {len(self)} recorded before are kept: "
                f"{_remedy(error)}, and run the same command again to continue"
            ) from error

    def records(self) -> Iterator[Record]:
        """Yield every row with all that it holds, sorted by id."""
        rows = self._db.execute(
            "SELECT id, trial, outcome, environment, wall_seconds, attempts, finished FROM trials ORDER BY id"
        ).fetchall()
        for name, trial, outcome, environment, wall_seconds, attempts, ended in rows:
            read = self._read(name, partial(_parsed, (trial, outcome, environment)))
            yield Record(Finished(*read, wall_seconds, attempts), ended)

    def merge(self, records: Sequence[Record]) -> int:
        """Write rows of another ledger, all or none; those that this one has already are left as they are.

        Args:
            records: The rows.

        Returns:
            The number of rows that are new.

        Raises:
            AdapterlabError: If this ledger has another outcome of one of the trials, or the file cannot be written.
        """
        known = {record.id: record.content for record in self.records()}
        if others := [each.id for each in records if known.get(each.id, each.content) != each.content]:
            raise AdapterlabError(
                f"{self.path} has another outcome of trial {others[0]}"
                f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}; nothing was imported: import into another "
                f"folder with --out, or take ours out with `adapterlab retry {self.path.parent} --trial {others[0]}`"
            )
        new = [record for record in records if record.id not in known]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for record in new:
                trial, outcome, environment, wall_seconds, attempts = record.finished
                data = map(json.dumps, (trial.to_json(), outcome.to_json(), dict(environment)))
                self._db.execute(
                    "INSERT INTO trials (id, trial, outcome, environment, wall_seconds, attempts, finished)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (record.id, *data, wall_seconds, attempts, record.ended),
                )
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise AdapterlabError(
                f"{self.path} cannot be written ({error}); nothing was imported: {_remedy(error)}"
            ) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        return len(new)

    def _write(self, statement: str, values: Sequence[object]) -> None:
        """Run a statement, waiting with a warning as long as another program has locked the file."""
        end = time.monotonic() + WAIT_SECONDS
        warned = False
        while True:
            try:
                self._db.execute(statement, values)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                if not warned:
                    text = f"{self.path} is locked by another program: waiting up to {WAIT_SECONDS:.0f} s for it to end"
                    warnings.warn(text, AdapterlabWarning, stacklevel=3)
                warned = True
            else:
                return

    def _refuse_if_gone(self) -> None:
        """Raise an error if the file was deleted or replaced since it was opened; its trials are kept in another file."""
        if _identity(self.path) == self._file:
            return
        kept = self.path.with_name(f"{self.path.stem}.rescued-{os.getpid()}{self.path.suffix}")
        text = f"{self.path} was deleted or replaced while this run was writing it; "
        try:
            self._db.execute("VACUUM INTO ?", (str(kept),))
        except sqlite3.Error:
            raise AdapterlabError(f"{text}its {len(self)} trials could not be kept, since its folder is gone") from None
        raise AdapterlabError(
            f"{text}its {len(self)} trials are kept in {kept}: move that file back to {self.path.name} and run the same "
            "command again to continue"
        )

    def remove(self, ids: Iterable[str]) -> int:
        """Delete trials, so that the next run of the study runs them again.

        Args:
            ids: Ids of the trials; those that the ledger lacks are left out.

        Returns:
            The number of trials deleted.

        Raises:
            AdapterlabError: If the file cannot be written.
        """
        before = len(self)
        try:
            self._db.executemany("DELETE FROM trials WHERE id = ?", [(name,) for name in ids])
        except sqlite3.OperationalError as error:
            raise AdapterlabError(f"{self.path} cannot be written ({error}): check that it is not read-only") from error
        return before - len(self)

    def reopen(self, limits: Mapping[str, object]) -> int:
        """Delete the trials that failed under other limits than now, so that they are run again.

        Args:
            limits: The limits of the study; a failure is recorded with those that it ran under.

        Returns:
            The number of trials deleted.

        Raises:
            AdapterlabError: If the file cannot be written.
        """
        # SQLite's own reader of JSON refuses the numbers that are not finite, which outcomes may hold.
        rows = self._db.execute("SELECT id, outcome, environment FROM trials WHERE instr(outcome, ?)", (FAILED,))
        found = {name: json.loads(environment) for name, outcome, environment in rows if _failed(outcome)}
        under = {name: json.loads(own[LIMITS]) for name, own in found.items() if own.get(LIMITS) is not None}
        return self.remove(name for name, own in under.items() if own != dict(limits))

    def outcome(self, trial: Trial) -> Outcome | None:
        """Return the outcome of a trial, or None if it was not run.

        Args:
            trial: The trial; it is found by its id.
        """
        row = self._db.execute("SELECT outcome FROM trials WHERE id = ?", (trial.id,)).fetchone()
        return self._read(trial.id, lambda: Outcome.from_json(json.loads(row[0]))) if row else None

    def _read(self, name: str, read: Callable[[], T]) -> T:
        """Return what is read of one row, with an error that names the row."""
        try:
            return read()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AdapterlabError(
                f"{self.path}: the row of trial {name} is damaged ({type(error).__name__}: {error}): to run it again, "
                f"`adapterlab retry {self.path.parent} --trial {name}`"
            ) from error

    def statuses(self) -> dict[str, str]:
        """Return the status of each trial by id, sorted by id; `damaged` for a row that cannot be read."""
        found = {}
        for name, trial, outcome in self._db.execute("SELECT id, trial, outcome FROM trials ORDER BY id").fetchall():
            try:
                found[name] = _parsed((trial, outcome, "{}"))[1].status
            except (ValueError, TypeError, KeyError, AttributeError):
                found[name] = "damaged"
        return found

    def wall_seconds(self, trial: Trial) -> float | None:
        """Return the time that a worker spent on a trial in seconds, or None if it is not known.

        Args:
            trial: The trial; it is found by its id.
        """
        row = self._db.execute("SELECT wall_seconds FROM trials WHERE id = ?", (trial.id,)).fetchone()
        return row[0] if row else None

    def origins(self, trials: Iterable[Trial] | None = None) -> list[Origin]:
        """Return the environments that trials ran in, the one with the most trials first.

        Args:
            trials: The trials to count; those that the ledger lacks are left out. None for all of the ledger.
        """
        names = None if trials is None else {trial.id for trial in trials}
        rows = self._db.execute("SELECT id, environment, finished FROM trials").fetchall()
        return group_by_environment(
            (json.loads(environment), finished)
            for name, environment, finished in rows
            if names is None or name in names
        )

    def data_version(self) -> int:
        """Return a number that changes when another process has written to the file."""
        (found,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(found)

    def times(self) -> dict[str, str]:
        """Return by trial's id the date and time in UTC when it was recorded, as `2026-01-31T12:00:00Z`."""
        return dict(self._db.execute("SELECT id, finished FROM trials").fetchall())

    def ended_by(self, moment: str) -> int:
        """Return the number of recorded trials that had ended at a moment.

        Args:
            moment: Date and time in UTC, as `2026-01-31T12:00:00Z`.
        """
        (count,) = self._db.execute("SELECT count(*) FROM trials WHERE finished <= ?", (moment,)).fetchone()
        return int(count)

    def unused(self, trials: Iterable[Trial]) -> Unused:
        """Return the number of trials that a study does not use, because the code or the study has changed.

        Args:
            trials: Trials that the contests of the study have used, or need next.
        """
        return count_unused((trial for trial, _, _ in self), trials)

    def __iter__(self) -> Iterator[tuple[Trial, Outcome, dict[str, str]]]:
        """Yield every trial with its outcome and its environment, sorted by id."""
        for row in self._db.execute("SELECT id, trial, outcome, environment FROM trials ORDER BY id").fetchall():
            yield self._read(row[0], partial(_parsed, row[1:]))

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM trials").fetchone()
        return int(count)

    @contextmanager
    def sole_writer(self, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Lock the ledger for writing within a `with` block. The lock ends with the process, however it ends.

        Args:
            wait: If another run has the lock, this is called once and the lock is waited for. None to raise instead.

        A block within another of the same ledger changes nothing.

        Yields:
            Nothing.

        Raises:
            AdapterlabError: If another run has the lock and `wait` is None.
        """
        if self._holds_lock:
            yield
            return
        with _open_lock(self.path.with_suffix(".lock")) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if wait is None:
                    raise AdapterlabError(
                        f"another run is writing {self.path}: wait until it has ended (--wait), or choose another folder "
                        "with --out"
                    ) from error
                wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self._holds_lock = True
                self.note_running(())
                yield
            finally:
                self._holds_lock = False
                self._notes.unlink(missing_ok=True)

    def note_running(self, trials: Sequence[Trial]) -> None:
        """Write the trials that are running at present to a file beside the ledger, for `running` in other processes.

        Only the run that has the lock may call this.

        Args:
            trials: All trials that are running; one that is not listed any more has ended.
        """
        now = time.time()
        self._started = {trial.id: self._started.get(trial.id, now) for trial in trials}
        with suppress(OSError):  # on a full disk, `record` raises the error
            write_text(self._notes, json.dumps(self._started))

    def running(self) -> dict[str, float]:
        """Return the trials that a run is working on: by id, the start in seconds since the epoch; empty without a run."""
        try:
            return dict(json.loads(self._notes.read_text())) if self.is_locked() else {}
        except (OSError, ValueError):
            return {}

    def is_locked(self) -> bool:
        """Return True if a run is writing the ledger."""
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


def _failed(outcome: str) -> bool:
    return bool(json.loads(outcome)["status"] == "failed")


def _parsed(row: Sequence[str]) -> tuple[Trial, Outcome, dict[str, str]]:
    trial, outcome, environment = map(json.loads, row)
    return Trial.from_json(trial), Outcome.from_json(outcome), environment


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what identifies a file as long as it exists, or None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_lock(path: Path) -> IO[bytes]:
    """Open the file of a lock for writing; a link is refused, since opening it would empty another file."""
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else _reason(error)
        raise AdapterlabError(
            f"{path} cannot be locked ({why}): remove it, or choose another folder with --out"
        ) from error


def _remedy(error: sqlite3.OperationalError) -> str:
    text = str(error)
    if "locked" in text:
        return "end the other program that has the file open"
    if "readonly" in text:
        return "make the file and its folder writable"
    return "free some disk space"


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
