"""Conversion of ledgers of older versions: the old file is copied first, and all steps are one transaction.

>>> from contextlib import closing
>>> with closing(sqlite3.connect(":memory:")) as db:
...     version_of(db)
0
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from adapterlab.files import writing

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
"""Statement that creates the table of this version."""
STEPS = {
    1: (
        "ALTER TABLE trials ADD COLUMN wall_seconds REAL",
        "ALTER TABLE trials ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1",
    ),
    2: (),  # outcomes may hold the losses of rows from version 3 on; those without are read as they are
    3: (
        "UPDATE trials SET trial = json_remove(json_set(trial, '$.precision', json_extract(trial, '$.dtype')), '$.dtype')"
        " WHERE json_type(trial, '$.dtype') IS NOT NULL",
    ),
    4: (),  # trials may have a metric, and outcomes the metric of answers, from version 5 on
}
"""By version, the statements that convert a ledger to the next version."""
VERSION = max(STEPS) + 1
"""Version that this program reads and writes."""


def version_of(db: sqlite3.Connection) -> int:
    """Return the version of an open ledger, 0 for a new file.

    Args:
        db: The ledger.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Convert a ledger to this version, unless another process has done so in the meantime.

    A copy of the old file is kept beside it as `NAME.vN.bak`. If the conversion stops before its end, the ledger is
    unchanged.

    Args:
        db: The open ledger, in autocommit mode.
        path: Its file.
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
    with (
        writing(copy) as partial,
        closing(sqlite3.connect(path)) as source,
        closing(sqlite3.connect(partial)) as target,
    ):
        source.backup(target)
