"""Ledgers of older versions, brought up to date: a copy is kept first, and all steps are one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

TABLE = """
CREATE TABLE trials (
    id TEXT PRIMARY KEY,
    trial TEXT NOT NULL,
    outcome TEXT NOT NULL,
    environment TEXT NOT NULL,
    finished TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    wall_seconds REAL,
    attempts INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID
"""
"""The ledger as this version writes it."""
STEPS = {
    1: (
        "ALTER TABLE trials ADD COLUMN wall_seconds REAL",
        "ALTER TABLE trials ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1",
    ),
}
"""By version, what makes a ledger one of the next."""
VERSION = max(STEPS) + 1


def version_of(db: sqlite3.Connection) -> int:
    """The version of an open ledger; 0 for a new file."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring an open ledger (in autocommit) to this version, unless another process has done so meanwhile.

    The file as it was stays beside it, as `NAME.vN.bak`. Whatever stops it leaves the ledger as it was.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        if (found := version_of(db)) < VERSION:
            _back_up(path, path.with_name(f"{path.name}.v{found}.bak"))
            for version in range(found, VERSION):
                for statement in STEPS[version]:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _back_up(path: Path, copy: Path) -> None:
    partial = copy.with_name(f".{copy.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as target:
            source.backup(target)
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)
