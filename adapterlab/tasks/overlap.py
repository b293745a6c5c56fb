"""Rows of the training part that resemble scored rows: counted and told, and kept.

Rows of equal content are never in two parts. These are equal but for letter case, punctuation and spaces, or have the same
prompt with another answer.

>>> rows = {Part.TRAIN: [Row("a:1", {"text": "Hello,  World"})], Part.TEST: [Row("a:2", {"text": "hello world!"})]}
>>> overlaps(rows, Form.TEXT)
['1 training row is nearly the same as a row of test (but for case, punctuation and spaces)']
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping

from adapterlab.tasks.base import Part
from adapterlab.tasks.rows import Form, Row

_MARKS = re.compile(r"[\s.,;:!?'\"]+")


def overlaps(parts: Mapping[Part, list[Row]], form: Form) -> list[str]:
    """Return notes on training rows that resemble rows of a part that is scored.

    Args:
        parts: Rows by part.
        form: Form of the rows.
    """
    if form is Form.IMAGE:
        return []
    notes = []
    for part in (Part.VALIDATION, Part.TEST, Part.OOD):
        if count := _shared(parts, part, _loosely):
            notes.append(
                f"{_rows(count, 'is', 'are')} nearly the same as a row of {part} (but for case, punctuation and spaces)"
            )
        if form in (Form.COMPLETION, Form.CHAT) and (count := _shared(parts, part, _prompt)):
            notes.append(f"{_rows(count, 'has', 'have')} the prompt of a row of {part}, with another answer")
    return notes


def _rows(count: int, one: str, several: str) -> str:
    return f"{count:,} training row {one}" if count == 1 else f"{count:,} training rows {several}"


def _shared(parts: Mapping[Part, list[Row]], part: Part, key: Callable[[Row], bytes | None]) -> int:
    scored = {key(row) for row in parts.get(part, ())} - {None}
    return sum(key(row) in scored for row in parts[Part.TRAIN])


def _loosely(row: Row) -> bytes | None:
    """Return a hash of the text without case, punctuation and spaces; None if nothing else is in it."""
    values = {key: value for key, value in row.values.items() if key != "label"}
    text = _MARKS.sub(" ", json.dumps(values, ensure_ascii=False, default=repr).casefold()).strip()
    written = _MARKS.sub("", "".join(map(str, values.values())))
    return hashlib.blake2b(text.encode(), digest_size=12).digest() if written else None


def _prompt(row: Row) -> bytes | None:
    """Return a hash of the prompt, or of the messages before the last answer; None if there is none."""
    prompt = row.values["prompt"] if "prompt" in row.values else row.values["messages"][:-1]
    text = json.dumps(prompt, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=12).digest() if prompt else None
