"""Record of a study's design in the folder of its results: what was decided before the first trial, and every change since.

A result that was planned is worth more than one that was found. So the study, the map, the code, the rule for stopping and
the rates at which the searches start are recorded before a trial runs, each by a hash, with the date. A later run with
another design appends an entry; it never replaces one. Each entry names the one before it by a hash, so an edit by hand is
noticed.

>>> first = extend((), {"study": {"tasks": ["prose"]}, "map": "", "code": "a", "stopping": "fixed"}, 0, "2026-01-01")
>>> then = extend(first, {"study": {"tasks": ["steer"]}, "map": "", "code": "a", "stopping": "fixed"}, 12, "2026-01-02")
>>> then[-1].remark
'The design was changed on 2026-01-02, after 12 trials: tasks.'
>>> intact(then), intact((then[1],))
(True, False)
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.study.spec import Study

WORDS = {
    "map": "the map",
    "code": "the code of adapterlab",
    "stopping": "the rule for stopping",
    "starts": "the rates at which the searches start",
    "study.model_hash": "the model's weights",
    "study.data_hash": "the data",
    "study.precision": "the precision",
}
"""Words for keys of a design; other keys are those of the study's file."""
FILE = "design.json"
"""Name of the file in a folder of results."""
Plan = Mapping[str, Any]
"""A design as plain data: `study`, `map`, `code`, `stopping` and `starts`."""


@dataclass(frozen=True)
class Entry:
    """A design and when it was decided."""

    plan: Plan
    date: str
    """Date and time of its first run, in UTC."""
    trials: int
    """Trials that the ledger held at that time."""
    changed: tuple[str, ...]
    """Keys that differ from the entry before it; empty for the first one."""
    before: str
    """Hash of the entry before it; empty for the first one."""
    hash: str
    """Hash of all of the above."""

    @property
    def remark(self) -> str:
        """A sentence about the change; empty for a design that was decided before the first trial."""
        if self.changed:
            after = "before the first trial" if self.trials == 0 else f"after {self.trials:,} trials"
            names = [WORDS.get(key, key.removeprefix("study.")) for key in self.changed]
            return f"The design was changed on {self.date[:10]}, {after}: {', '.join(names)}."
        return f"The design was recorded after {self.trials:,} trials had run." if self.trials else ""


@dataclass(frozen=True)
class DesignHistory:
    """The designs of a study, the first one first."""

    entries: tuple[Entry, ...]
    intact: bool
    """False if the record was edited by hand."""

    @property
    def remarks(self) -> list[str]:
        """Sentences about changes of the design and about a broken record."""
        undone = [
            f"The race was called off on {new.date[:10]}: contestants that had stopped were run with further seeds."
            for old, new in itertools.pairwise(self.entries)
            if old.plan["stopping"].startswith("racing") and new.plan["stopping"].startswith("fixed") and new.trials
        ]
        told = [
            new.remark
            for old, new in zip((None, *self.entries), self.entries, strict=False)
            if not _same_code(old, new)
        ]
        broken = [] if self.intact else [f"{FILE} was edited by hand: its dates and changes cannot be relied on."]
        return [text for text in (*told, *undone, *broken) if text]

    @property
    def facts(self) -> dict[str, str]:
        """Rows of the table of provenance about the design."""
        now = self.entries[-1]
        hashes = f"study {digest(now.plan['study'])}, map {now.plan['map'] or 'none'}, code {now.plan['code']}"
        return {"designed": f"{now.date[:10]}, after {now.trials:,} trials; {hashes}", "stopping": now.plan["stopping"]}

    def to_json(self) -> dict[str, Any]:
        """Return the hashes and dates as plain data.

        Returns:
            The current design, the date on which it was first decided, and each change.
        """
        now = self.entries[-1]
        return {
            "study_hash": digest(now.plan["study"]),
            "map_hash": now.plan["map"],
            "code": now.plan["code"],
            "stopping_rule": now.plan["stopping"],
            "locked": now.date,
            "trials_when_locked": now.trials,
            "changes": [
                {"date": entry.date, "trials": entry.trials, "changed": list(entry.changed)}
                for entry in self.entries
                if entry.changed
            ],
            "intact": self.intact,
        }


def digest(value: object) -> str:
    """Return the SHA-256 of plain data as canonical JSON, 16 hexadecimal digits.

    Args:
        value: The data.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@cache
def package_code() -> str:
    """Return the version of the package and a hash of its source files."""
    root = Path(__file__).parents[2]
    hashed = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        hashed.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{version('adapterlab')} {hashed.hexdigest()[:16]}"


def stopping_rule(study: Study) -> str:
    """Return the rule by which a study ends, in words.

    Args:
        study: The study.
    """
    seeds = len(study.report.seeds)
    if study.report.racing:
        return (
            f"racing: {study.report.fewest_seeds} to {seeds} reported runs of each contestant on each task, as long as a "
            "comparison with the leader or the reference is open and further seeds could settle it"
        )
    return f"fixed: {seeds} reported run{'s' * (seeds > 1)} of each contestant on each task, whatever they show"


def plan_of(resolved: ResolvedStudy, map_text: str | None) -> Plan:
    """Return the design of a study as plain data, without the limits, which decide no outcome.

    Args:
        resolved: The study.
        map_text: Text of the map whose claims are tested; None for none.
    """
    left_out = {"limits", *(() if resolved.study.geometry else ("geometry",))}  # designs without it keep their hash
    return {
        "study": {
            **resolved.study.model_dump(mode="json", exclude=left_out),
            "model_hash": "+".join(model.hash for model in resolved.models.values()),
            "data_hash": digest(dict(resolved.data)),
            "precision": resolved.precision.precision,
        },
        "map": "" if map_text is None else digest(map_text),
        "code": package_code(),
        "stopping": stopping_rule(resolved.study),
        "starts": [[entry.name, *resolved.start(entry.name, entry.build())] for entry in resolved.study.entrants],
    }


def lock_design(folder: Path, plan: Plan, trials: int) -> DesignHistory:
    """Record the design of a study before it runs, if it is not the one recorded last.

    Args:
        folder: The folder of results.
        plan: The design.
        trials: Trials in the ledger.

    Returns:
        All designs, this one last.

    Raises:
        AdapterlabError: If the record cannot be read.
    """
    found = _read(folder / FILE)
    entries = extend(found, plan, trials, datetime.now(UTC).isoformat(timespec="seconds"))
    if entries != found:
        write_text(folder / FILE, json.dumps([asdict(entry) for entry in entries], indent=1) + "\n")
    return DesignHistory(entries, intact(entries))


def read_design(folder: Path) -> DesignHistory | None:
    """Return the recorded designs of a study, or None if there is no record.

    Args:
        folder: The folder of results.

    Raises:
        AdapterlabError: If the record cannot be read.
    """
    found = _read(folder / FILE)
    return DesignHistory(found, intact(found)) if found else None


def extend(entries: Sequence[Entry], plan: Plan, trials: int, date: str) -> tuple[Entry, ...]:
    """Append a design, unless it is the last one.

    Args:
        entries: The designs so far.
        plan: The design.
        trials: Trials in the ledger.
        date: Date and time.

    Returns:
        The designs.
    """
    changed = tuple(_differences(_compared(entries[-1].plan), _compared(plan))) if entries else ()
    if entries and not changed:
        return tuple(entries)
    before = entries[-1].hash if entries else ""
    return *entries, Entry(plan, date, trials, changed, before, _hash(plan, date, trials, changed, before))


def intact(entries: Sequence[Entry]) -> bool:
    """Return True if no entry was edited, removed or put in another order.

    Args:
        entries: The designs.
    """
    before = ""
    for entry in entries:
        if entry.before != before or entry.hash != _hash(
            entry.plan, entry.date, entry.trials, entry.changed, entry.before
        ):
            return False
        before = entry.hash
    return True


def _hash(plan: Plan, date: str, trials: int, changed: Sequence[str], before: str) -> str:
    return digest([plan, date, trials, list(changed), before])


def _differences(old: Plan, new: Plan, where: str = "") -> list[str]:
    """Return the keys that differ, with those of tables inside by their path."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping) and key != "settings":
            found += _differences(a, b, f"{where}{key}.")
        elif a != b:
            found.append(f"{where}{key}")
    return found


def _same_code(old: Entry | None, new: Entry) -> bool:
    """Return True if nothing but the version differs, whose number may change without a change of the code."""
    return old is not None and new.changed == ("code",) and _compared(old.plan)["code"] == _compared(new.plan)["code"]


def _compared(plan: Plan) -> Plan:
    """Return a design as it is compared with another: with the hash of the source files alone, not the version's number."""
    return {**plan, "code": str(plan["code"]).rpartition(" ")[2]}


def _read(path: Path) -> tuple[Entry, ...]:
    if not path.is_file():
        return ()
    try:
        return tuple(Entry(**{**entry, "changed": tuple(entry["changed"])}) for entry in json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AdapterlabError(
            f"{path} cannot be read as a record of the design: restore it, or move it away to start another"
        ) from error
