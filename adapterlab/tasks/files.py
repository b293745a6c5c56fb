"""A task made of a user's files."""

from __future__ import annotations

from pathlib import Path

from adapterlab.tasks.base import Task
from adapterlab.tasks.own_labels import OwnLabels
from adapterlab.tasks.own_text import OwnText
from adapterlab.tasks.parts import FileData, parts_of
from adapterlab.tasks.rows import Form, read

__all__ = ["FileData", "parts_of", "task_of"]


def task_of(data: FileData) -> Task:
    """The task that these files make: a language model's on text, a classifier's on labels.

    Raises `AdapterlabError` naming the file, the line and the mend where the files are not what they should be.
    """
    form, _ = read(Path(data.train))
    return OwnLabels(data, form) if form in (Form.LABEL, Form.IMAGE) else OwnText(data)
