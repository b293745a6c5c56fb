"""Notes on a study's own data: rows left out, rows that resemble scored ones, and rows that are too long.

>>> from adapterlab.lab.study.spec import Study
>>> data_notes(Study(name="mine", tasks=("prose",), contestants=({"adapter": "lora"},)))
()
"""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer

from adapterlab.lab.study.spec import Study
from adapterlab.models.fingerprint import place_of
from adapterlab.tasks.parts import parts_of
from adapterlab.tasks.rows import Form
from adapterlab.tasks.truncation import truncations


def data_notes(study: Study) -> tuple[str, ...]:
    """Return the notes in words, one sentence each.

    Args:
        study: The study.

    Raises:
        AdapterlabError: A file is missing or malformed.
    """
    notes = []
    for entry in (entry for entry in study.data if entry.name in study.tasks):
        parts = parts_of(entry.files)
        found = [*parts.notes]
        if parts.form not in (Form.TEXT, Form.IMAGE):
            found += truncations(parts.rows, parts.form, _tokenizer(study.model), study.training.length)
        notes += [f"{entry.name}: {note}." for note in found]
    return tuple(notes)


def _tokenizer(model: str) -> Any:
    where, revision = place_of(model)
    settings = {} if revision is None else {"revision": revision}
    return AutoTokenizer.from_pretrained(where, trust_remote_code=False, **settings)
