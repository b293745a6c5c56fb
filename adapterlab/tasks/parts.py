"""A user's files cut into the parts of a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.tasks.base import Part
from adapterlab.tasks.rows import Form, Row, fingerprint, read

LEAST = 10
"""Different rows that can be cut into training, validation and test."""
_VALIDATION, _TEST = 0.1, 0.2


@dataclass(frozen=True)
class FileData:
    """The files of one task, as paths: what is learned, and what it is scored on.

    Without `eval`, validation and test are cut from `train`; without `ood` that part is left out; `keep` is what must not
    be forgotten, the built-in base domain if it is not said.
    """

    name: str
    train: str
    eval: str | None = None
    ood: str | None = None
    keep: str | None = None

    @property
    def paths(self) -> list[Path]:
        """The files and folders that were named."""
        return [Path(p) for p in (self.train, self.eval, self.ood, self.keep) if p is not None]


@dataclass(frozen=True)
class Parts:
    """The rows of a task by part, no content in two of them."""

    form: Form
    rows: dict[Part, list[Row]]
    hash: str
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""
    keep_form: Form = Form.TEXT


@cache
def parts_of(data: FileData) -> Parts:
    """Read the files and cut them; raises `AdapterlabError` as `read` does, or where there are too few rows.

    Equal rows fall on one side: validation and test are cut by a hash of the content, and what is in another file too is
    taken out of the training rows.
    """
    form, train = read(Path(data.train))
    parts: dict[Part, list[Row]] = {}
    notes = []
    if data.eval is None:
        parts |= _cut(data.train, train, {Part.VALIDATION: _VALIDATION, Part.TEST: _TEST})
    else:
        parts |= {Part.TRAIN: train} | _cut(
            data.eval, _same_form(data.eval, form, data.train), {Part.VALIDATION: 1 / 3}
        )
    if data.ood is not None:
        parts[Part.OOD] = _same_form(data.ood, form, data.train)
    keep_form = form
    if data.keep is not None:
        keep_form, parts[Part.BASE] = read(Path(data.keep))
    for part in (Part.TEST, Part.VALIDATION, Part.OOD, Part.BASE):
        seen = {row.content for row in parts.get(part, ())}
        fresh = [row for row in parts[Part.TRAIN] if row.content not in seen]
        if len(fresh) < len(parts[Part.TRAIN]):
            notes.append(f"{len(parts[Part.TRAIN]) - len(fresh)} training rows are in {part} too, and were left out")
        parts[Part.TRAIN] = fresh
    if not parts[Part.TRAIN]:
        raise AdapterlabError(f"{data.train}: every row is also in what it is scored on: give other rows to --eval")
    return Parts(form, parts, fingerprint(data.paths), notes, keep_form)


def _same_form(path: str, form: Form, train: str) -> list[Row]:
    found, rows = read(Path(path))
    if found is not form:
        raise AdapterlabError(f"{path} holds {found}, but {train} holds {form}: give the same form to all of them")
    return rows


def _cut(path: str, rows: list[Row], shares: dict[Part, float]) -> dict[Part, list[Row]]:
    """Cut rows by a hash of their content; what the shares leave is training's, or the test's if they name no test."""
    rest = Part.TRAIN if Part.TEST in shares else Part.TEST
    contents = sorted({row.content for row in rows})
    least = LEAST if rest is Part.TRAIN else 2
    if len(contents) < least:
        raise AdapterlabError(
            f"{path} has {len(contents)} different rows, too few to cut {', '.join([*shares, rest])} from: "
            f"give at least {least}"
        )
    side: dict[bytes, Part] = {}
    start = 0
    for part, share in shares.items():
        end = start + max(1, round(share * len(contents)))
        side |= dict.fromkeys(contents[start:end], part)
        start = end
    cut: dict[Part, list[Row]] = {part: [] for part in (*shares, rest)}
    for row in rows:
        cut[side.get(row.content, rest)].append(row)
    return cut
