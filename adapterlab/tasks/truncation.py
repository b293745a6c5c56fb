"""Rows of a user's files that are longer than an example may be, counted.

>>> split = lambda texts, **_: {"input_ids": [text.split() for text in texts]}
>>> rows = {Part.TEST: [Row("a:1", {"prompt": "one two three", "completion": "four"})]}
>>> truncations(rows, Form.COMPLETION, split, 2)
['1 of 1 rows of test has more than 2 tokens: its start is left out']
"""

from __future__ import annotations

from collections.abc import Mapping

from adapterlab.tasks.base import Part
from adapterlab.tasks.rows import Form, Row
from adapterlab.tasks.text import Tokenizer


def truncations(parts: Mapping[Part, list[Row]], form: Form, tokenizer: Tokenizer, length: int) -> list[str]:
    """Return notes on the rows that do not fit; running text is cut into windows, and nothing of it is lost.

    Args:
        parts: Rows by part.
        form: Form of the rows.
        tokenizer: The model's tokenizer.
        length: Most tokens in an example. The marks that a chat template adds are not counted.
    """
    if form in (Form.TEXT, Form.IMAGE):
        return []
    lost = "the rest is left out" if form is Form.LABEL else "its start is left out"
    notes = []
    for part, rows in parts.items():
        if part is Part.BASE or not rows:
            continue
        encoded = tokenizer([_text(row, form) for row in rows], add_special_tokens=False)["input_ids"]
        if count := sum(len(ids) > length for ids in encoded):
            notes.append(
                f"{count:,} of {len(rows):,} rows of {part} {'has' if count == 1 else 'have'} more than {length} tokens: "
                + (lost if count == 1 else lost.replace("its start", "their start"))
            )
    return notes


def _text(row: Row, form: Form) -> str:
    if form is Form.CHAT:
        return "\n".join(message["content"] for message in row.values["messages"])
    return "".join(str(row.values[key]) for key in form.keys if key != "label")
