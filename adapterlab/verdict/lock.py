r"""Locks: a record of an argument map's claims, tests and forecast, written before a study runs.

A forecast that was written down before the results is worth more than one that was not. A lock holds the content that a
verdict depends on (`lock_content`), its hash, the forecast that follows from it, and the date. It is sealed by a hash of
the whole, so that an edit by hand is noticed; only a copy that others hold proves the date.

>>> from adapterlab.argmap import parse
>>> the_map = parse("[T]: t {prior: 0.3}\n  + [C]: c {predicted: [0.7, 0.4], credence: 0.5}")
>>> lock = make_lock(the_map, date="2026-01-01T00:00:00Z")
>>> lock.forecast["claims"]["[T]"], lock.is_intact
(0.302521, True)
>>> later = parse(the_map.source.text.replace("0.5", "0.6"))
>>> print(LockStatus(lock, tuple(lock.changes(later)), trials=12).remark)  # doctest: +ELLIPSIS
The claims were locked on 2026-01-01 (hash ...), after 12 trials had run. Changed since: the credence of [C] from 0.5 to
0.6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adapterlab import argmap
from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.verdict.lock_content import Content, changes, content_of, digest

FORMAT = 1
"""Version of the file's form."""
SUFFIX = ".lock.json"
"""End of a lock's file name, after the name of the map without its own suffix."""
SHOWN = 16
"""Hexadecimal digits of a hash that are shown."""
LISTED = 3
"""Changes that a sentence lists; the others are counted."""
UNLOCKED = "The claims were not locked before this study (`adapterlab map lock` does that)."
"""Remark on a verdict without a lock."""


@dataclass(frozen=True)
class Lock:
    """Claims, tests and forecast at a date."""

    name: str
    """File name of the map."""
    hash: str
    """SHA-256 of the content."""
    date: str
    """Date and time, UTC."""
    version: str
    """Version of the package that wrote it."""
    forecast: Mapping[str, Any]
    """`semantics`, and `claims`: the credence of each claim, the thesis included, given all that the map states."""
    content: Content
    seal: str
    """SHA-256 of all of the above."""

    @property
    def is_intact(self) -> bool:
        """True if the file was not edited."""
        return self.seal == _seal(self) and self.hash == digest(self.content)

    def changes(self, the_map: argmap.Map, study: ResolvedStudy | None = None) -> list[str]:
        """Return what has changed since, in words.

        Args:
            the_map: The map now.
            study: The study now; not compared if the lock names none.

        Raises:
            AdapterlabError: If a claim's test cannot be read.
        """
        labels = [] if study is None else [entry.name for entry in study.study.entrants]
        compared = study if self.content["study"] is not None else None
        return changes(self.content, content_of(the_map, compared, labels))

    def to_text(self) -> str:
        """Return the text of the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class LockStatus:
    """A lock, and how the map and the results compare with it."""

    lock: Lock
    changed: tuple[str, ...]
    """Changes of claims, tests, rules and study since the lock, in words."""
    trials: int
    """Trials of the ledger that had ended when the lock was written."""

    @property
    def is_kept(self) -> bool:
        """True if the lock was written before the first trial, nothing has changed since, and it was not edited."""
        return not self.changed and not self.trials and self.lock.is_intact

    @property
    def remark(self) -> str:
        """The status in words."""
        lock = self.lock
        when = "before the first trial"
        if self.trials:
            when = f"after {self.trials:,} trial{'s' * (self.trials > 1)} had run"
        found = [f"The claims were locked on {lock.date[:10]} (hash {lock.hash[:SHOWN]}), {when}."]
        if self.changed:
            rest = len(self.changed) - LISTED
            more = f"; and {rest} more" if rest > 0 else ""
            listed = (text.replace(" changed from ", " from ") for text in self.changed[:LISTED])
            found.append(f"Changed since: {'; '.join(listed)}{more}.")
        else:
            found.append("Map and tests are as they were locked.")
        if not lock.is_intact:
            found.append("The lock was edited by hand: it proves nothing.")
        return " ".join(found)

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain data."""
        lock = self.lock
        return {
            "hash": lock.hash,
            "date": lock.date,
            "version": lock.version,
            "changed": list(self.changed),
            "trials_when_locked": self.trials,
            "intact": lock.is_intact,
            "kept": self.is_kept,
            "forecast": dict(lock.forecast),
        }


def make_lock(the_map: argmap.Map, study: ResolvedStudy | None = None, date: str | None = None) -> Lock:
    """Lock a map.

    Args:
        the_map: The map.
        study: Study that will test it, whose design, tasks and thresholds are locked too.
        date: Date and time as `2026-01-31T12:00:00Z`; now if None.

    Returns:
        The lock.

    Raises:
        AdapterlabError: If the map or a claim's test has an error.
    """
    content = content_of(the_map, study)
    scores = argmap.score(the_map)
    claims = {f"[{title}]": round(claim.credence, 6) for title, claim in sorted(scores.claims.items())}
    lock = Lock(
        Path(the_map.source.name).name,
        digest(content),
        date or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version("adapterlab"),
        {"semantics": scores.semantics, "claims": claims},
        content,
        "",
    )
    return Lock(**{**vars(lock), "seal": _seal(lock)})


def write_lock(lock: Lock, path: Path) -> Lock:
    """Write a lock, unless the file holds one of the same content already, whose date then stays.

    Args:
        lock: The lock.
        path: The file.

    Returns:
        The lock that the file holds.

    Raises:
        AdapterlabError: If the file holds another lock, which is never overwritten.
    """
    if path.exists():
        found = read_lock(path)
        if found.hash != lock.hash or not found.is_intact:
            raise AdapterlabError(
                f"{path} is a lock of {found.date[:10]} with other content, and a lock is not overwritten: "
                "see what changed with --check, then move it away or name another file with --out"
            )
        return found
    write_text(path, lock.to_text())
    return lock


def read_lock(path: Path) -> Lock:
    """Read a lock.

    Args:
        path: The file.

    Returns:
        The lock; `Lock.is_intact` says whether it was edited.

    Raises:
        AdapterlabError: If it cannot be read, or is no lock of this version.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
        form = data.pop("format")
        lock = Lock(**data)
        _ = lock.content["study"], lock.forecast["claims"], lock.date[:10], changes(lock.content, lock.content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterlabError(
            f"{path} cannot be read as a lock ({error}): write one with `adapterlab map lock`"
        ) from error
    if form != FORMAT:
        raise AdapterlabError(f"{path} is a lock of form {form}, but this program reads form {FORMAT}")
    return lock


def lock_file(map_file: Path, folder: Path | None = None) -> Path:
    """Return the usual file of a map's lock.

    Args:
        map_file: File of the map.
        folder: Folder of a study's results; None for the file beside the map.
    """
    return (map_file.parent if folder is None else folder) / f"{map_file.stem}{SUFFIX}"


def find_lock(the_map: argmap.Map, folder: Path, given: Path | None = None) -> Lock | None:
    """Find the lock of a map.

    Args:
        the_map: The map.
        folder: Folder of the results, where it is looked for first, then beside the map.
        given: File that the user named; nothing else is looked for.

    Returns:
        The lock, or None if there is none.

    Raises:
        AdapterlabError: If the file cannot be read.
    """
    if given is not None:
        return read_lock(given)
    map_file = Path(the_map.source.name)
    places = (lock_file(map_file, folder), lock_file(map_file))
    return next((read_lock(path) for path in places if path.is_file()), None)


def _seal(lock: Lock) -> str:
    return digest({key: value for key, value in asdict(lock).items() if key != "seal"})
