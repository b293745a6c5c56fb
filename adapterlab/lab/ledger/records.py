"""Rows of a ledger as plain data: exact, with a checksum, and checked when they are read.

>>> trial = Trial("embedded", "1f", "prose", "2a", '{"name": "lora"}', "all-linear", lr=1e-3, seed=1, steps=40, batch=4,
...               length=128, parts=("test",), windows=8, curve_every=0, code="3c")
>>> outcome = Outcome("ok", {"test": (0.1, 0.5)}, (), 10, 1.0, 0.5, rows={"test": (0.1, 0.1)})
>>> row = Record(Finished(trial, outcome, {"device": "cpu"}, 2.0), "2026-01-01T00:00:00Z")
>>> cells = encode(row)
>>> cells["rows"], decode(trial.id, cells) == row
('{"test": [0.1, 0.1]}', True)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adapterlab.lab.trial.spec import Finished, Outcome, Trial

RECORD, CHECKSUM = "record", "checksum"
"""Keys of an encoded row: all that has no key of its own, as JSON, and the hash over the others."""
LISTS = ("curve", "path", "along", "rows", "answers")
"""Fields of an outcome that have keys of their own, since a table for analysis has a column for each."""
STATUSES = ("ok", "diverged", "failed")


@dataclass(frozen=True)
class Record:
    """A row of a ledger."""

    finished: Finished
    ended: str
    """Date and time in UTC when the trial was recorded, as `2026-01-31T12:00:00Z`."""

    @property
    def id(self) -> str:
        """Id of the trial."""
        return self.finished.trial.id

    @property
    def content(self) -> str:
        """The row as canonical JSON, without the time when it was recorded."""
        return json.dumps(_plain(self) | {"ended": ""}, sort_keys=True)


def encode(record: Record) -> dict[str, str]:
    """Return a row as text by key: `RECORD`, `CHECKSUM` and `LISTS`.

    Args:
        record: The row.
    """
    plain = _plain(record)
    cells = {name: json.dumps(plain["outcome"].pop(name)) for name in LISTS}
    cells[RECORD] = json.dumps(plain)
    return cells | {CHECKSUM: _checksum(cells)}


def decode(name: str, cells: Mapping[str, str]) -> Record:
    """Return the row that `encode` was called on.

    Args:
        name: Id that the trial must have.
        cells: What `encode` gave.

    Raises:
        ValueError: If the row is damaged or its id does not match its content; the message is a phrase.
    """
    if any(not isinstance(cells[key], str) for key in (RECORD, CHECKSUM, *LISTS)):
        raise ValueError("a cell is empty")
    if cells[CHECKSUM] != _checksum(cells):
        raise ValueError("its checksum does not match its content")
    try:
        plain = json.loads(cells[RECORD])
        outcome = plain["outcome"] | {key: json.loads(cells[key]) for key in LISTS}
        _checked(Trial).validate_python(plain["trial"])
        _checked(Outcome).validate_python(outcome)
        finished = Finished(
            Trial.from_json(plain["trial"]),
            Outcome.from_json(outcome),
            {str(key): str(value) for key, value in plain["environment"].items()},
            plain["wall_seconds"],
            int(plain["attempts"]),
        )
        record = Record(finished, str(plain["ended"]))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if record.id != name:
        raise ValueError(f"its content gives the id {record.id}")
    missing = set(finished.trial.parts) - set(finished.outcome.scores)
    if finished.outcome.status not in STATUSES or (finished.outcome.status == "ok" and missing):
        raise ValueError(
            f"a trial with status {finished.outcome.status!r} lacks scores of {', '.join(sorted(missing))}"
        )
    return record


def _plain(record: Record) -> dict[str, Any]:
    trial, outcome, environment, wall_seconds, attempts = record.finished
    return {
        "trial": trial.to_json(),
        "outcome": outcome.to_json(),
        "environment": dict(environment),
        "wall_seconds": wall_seconds,
        "attempts": attempts,
        "ended": record.ended,
    }


def _checksum(cells: Mapping[str, str]) -> str:
    text = "\0".join(cells[key] for key in (RECORD, *LISTS))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@cache
def _checked(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
