r"""Division of a user's files into the parts of a task.

Example:
    >>> import json, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "texts.jsonl"
    ...     _ = path.write_text("\n".join(json.dumps({"text": f"line {i}"}) for i in range(20)))
    ...     parts = parts_of(FileData("mine", train=str(path)))
    >>> {str(part): len(rows) for part, rows in parts.rows.items()}
    {'validation': 2, 'test': 4, 'train': 14}
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.input_files import FileStamp, stamp_of, stamps_below
from adapterlab.tasks.answer_metrics import MAX_NEW_TOKENS
from adapterlab.tasks.base import Part
from adapterlab.tasks.overlap import overlaps
from adapterlab.tasks.rows import Form, Row, fingerprint, read

MIN_ROWS = 10
"""Smallest number of different rows that is divided into training, validation and test."""
MOST_SHARED = 0.01
"""Largest share of the rows of a scored file that may be in the training file too; they are then left out of training."""
_VALIDATION, _TEST = 0.1, 0.2


@dataclass(frozen=True)
class FileData:
    """The files of one task, as paths of files or folders."""

    name: str
    """Name of the task."""
    train: str
    """Rows to train on."""
    eval: str | None = None
    """Rows for validation and test; by default some of the training rows are kept back for them."""
    ood: str | None = None
    """Rows of another domain; by default the task has no out-of-domain part."""
    keep: str | None = None
    """Rows that the model should not forget; by default the domain of the embedded base model."""
    metric: str = ""
    """Metric of generated answers, with an absolute path for a scorer of the user; empty to generate none."""
    max_new_tokens: int = MAX_NEW_TOKENS
    """Tokens of a generated answer, at most."""

    @property
    def paths(self) -> list[Path]:
        """Files and folders that are set, in the order of the fields."""
        return [Path(p) for p in (self.train, self.eval, self.ood, self.keep) if p is not None]


@dataclass(frozen=True)
class Parts:
    """The rows of a task by part; no training row has the content of a row in another part."""

    form: Form
    """Form of all rows except those of `Part.BASE`."""
    rows: dict[Part, list[Row]]
    """Rows of each part."""
    hash: str
    """Hash of the files' bytes."""
    files: tuple[FileStamp, ...]
    """The files as they were when they were read, images that rows name among them."""
    notes: list[str] = field(default_factory=list)
    """Messages about rows that were left out."""
    keep_form: Form = Form.TEXT
    """Form of the rows of `Part.BASE`."""


_READ: dict[FileData, Parts] = {}
"""Parts by data, as this process has read them."""


def parts_of(data: FileData) -> Parts:
    """Read a user's files and divide their rows into parts.

    Rows of equal content go to the same part: the division follows a hash of the content, and rows that are also in
    another file are removed from training.

    Args:
        data: The name of the task and the paths of its files.

    Returns:
        The parts. The result is cached, and read again after `forget_changed`.

    Raises:
        AdapterlabError: If a file is missing or malformed, files differ in form, or there are too few rows.
    """
    if data not in _READ:
        _READ[data] = _read_parts(data)
    return _READ[data]


def _read_parts(data: FileData) -> Parts:
    stamps = stamps_below([path for path in data.paths if path.exists()])  # before the content is read
    form, train = read(Path(data.train))
    parts: dict[Part, list[Row]] = {}
    notes = []
    if data.eval is None:
        parts |= _divide(data.train, train, {Part.VALIDATION: _VALIDATION, Part.TEST: _TEST})
    else:
        parts |= {Part.TRAIN: train} | _divide(
            data.eval, _same_form(data.eval, form, data.train), {Part.VALIDATION: 1 / 3}
        )
    if data.ood is not None:
        parts[Part.OOD] = _same_form(data.ood, form, data.train)
    keep_form = form
    if data.keep is not None:
        keep_form, parts[Part.BASE] = read(Path(data.keep))
    _refuse_leaks(data, parts)
    for part in (Part.TEST, Part.VALIDATION, Part.OOD, Part.BASE):
        scored = {row.content for row in parts.get(part, ())}
        unscored = [row for row in parts[Part.TRAIN] if row.content not in scored]
        if len(unscored) < len(parts[Part.TRAIN]):
            notes.append(f"{len(parts[Part.TRAIN]) - len(unscored)} training rows are also in {part} and were left out")
        parts[Part.TRAIN] = unscored
    notes += overlaps(parts, form)
    if form in (Form.LABEL, Form.IMAGE):
        notes += _unscored_labels(data.train if data.eval is None else data.eval, parts)
    if not parts[Part.TRAIN]:
        raise AdapterlabError(f"{data.train}: every row is also in a part that is scored: give other rows to --eval")
    images = _images_elsewhere(parts, stamps)
    hashed = fingerprint(data.paths)
    if images:
        content = "".join([hashed, *(image.digest for image in images)])
        hashed = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
    return Parts(form, parts, hashed, (*stamps, *images), notes, keep_form)


def _refuse_leaks(data: FileData, parts: dict[Part, list[Row]]) -> None:
    """Raise an error if many rows of a file that is scored are also trained on: then the files were divided wrongly."""
    trained = {row.content for row in parts[Part.TRAIN]}
    for path, scored in ((data.eval, (Part.VALIDATION, Part.TEST)), (data.ood, (Part.OOD,))):
        rows = [row for part in scored for row in parts.get(part, ())] if path else []
        shared = sum(row.content in trained for row in rows)
        if shared > MOST_SHARED * len(rows):
            raise AdapterlabError(
                f"{path}: {shared:,} of its {len(rows):,} rows ({shared / len(rows):.0%}) are also in {data.train}, so "
                "scores on them would say little: take them out of one of the two files"
            )


def forget_changed(data: FileData) -> None:
    """Read a user's files again when they are asked for next, if they have changed since this process read them.

    Args:
        data: The name of the task and the paths of its files.
    """
    if data in _READ and not all(stamp.is_untouched for stamp in _READ[data].files):
        del _READ[data]


def _images_elsewhere(parts: dict[Part, list[Row]], known: Sequence[FileStamp]) -> tuple[FileStamp, ...]:
    """Return the stamps of images that rows name by a path and that are not in the data's own folders."""
    values = [row.values.get("image") for rows in parts.values() for row in rows]
    below = {stamp.path for stamp in known}
    return tuple(stamp_of(Path(path)) for path in dict.fromkeys(values) if isinstance(path, str) and path not in below)


def _same_form(path: str, form: Form, train: str) -> list[Row]:
    found, rows = read(Path(path))
    if found is not form:
        raise AdapterlabError(f"{path} holds {found}, but {train} holds {form}: give the same form to all of them")
    return rows


def _divide(path: str, rows: list[Row], shares: dict[Part, float]) -> dict[Part, list[Row]]:
    """Divide rows by a hash of their content; the remainder is for training, or for the test if no share is for it."""
    rest = Part.TRAIN if Part.TEST in shares else Part.TEST
    contents = sorted({row.content for row in rows})
    least = MIN_ROWS if rest is Part.TRAIN else 2
    if len(contents) < least:
        raise AdapterlabError(
            f"{path} has {len(contents)} different rows, too few to divide into {', '.join([*shares, rest])}: "
            f"give at least {least}"
        )
    part_of: dict[bytes, Part] = {}
    groups = _by_label(rows)
    if all(len(group) <= len(shares) for group in groups):
        groups = [contents]
    for group in groups:
        start = 0
        # A label with too few rows for all parts is left to the rest.
        for part, share in shares.items() if len(group) > len(shares) else ():
            end = start + max(1, round(share * len(group)))
            part_of |= dict.fromkeys(group[start:end], part)
            start = end
    divided: dict[Part, list[Row]] = {part: [] for part in (*shares, rest)}
    for row in rows:
        divided[part_of.get(row.content, rest)].append(row)
    return divided


def _by_label(rows: list[Row]) -> list[list[bytes]]:
    """Return the different contents of the rows of each label, sorted; of all rows if they have no labels."""
    label_of: dict[bytes, str] = {}
    for row in rows:
        label_of.setdefault(row.content, str(row.values.get("label")))
    groups: dict[str, list[bytes]] = {}
    for content in sorted(label_of):
        groups.setdefault(label_of[content], []).append(content)
    return [groups[label] for label in sorted(groups)]


def _unscored_labels(path: str, parts: dict[Part, list[Row]]) -> list[str]:
    """Return a note on the labels that a scored part lacks."""
    labels = {part: {str(row.values["label"]) for row in rows} for part, rows in parts.items() if rows}
    trained = labels.get(Part.TRAIN, set())
    lacking = {part: sorted(trained - labels.get(part, set())) for part in (Part.VALIDATION, Part.TEST)}
    return [
        f"{path} has too few rows with the label {absent[0]!r}"
        + (f" and {len(absent) - 1} others" if len(absent) > 1 else "")
        + f" to give one to {part}, so it is not scored there"
        for part, absent in lacking.items()
        if absent
    ]
