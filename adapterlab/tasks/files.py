"""A task made of a user's files."""

from __future__ import annotations

from pathlib import Path

from adapterlab.tasks.base import Task
from adapterlab.tasks.parts import FileData, parts_of
from adapterlab.tasks.rows import Form, read
from adapterlab.tasks.user_labels import UserLabels
from adapterlab.tasks.user_text import UserText

__all__ = ["FileData", "parts_of", "task_of"]


def task_of(data: FileData) -> Task:
    """The task that these files make: a language model's on text, a classifier's on labels.

    Raises `AdapterlabError` naming the file, the line and the mend where the files are not what they should be.
    """
    form, _ = read(Path(data.train))
    return UserLabels(data, form) if form in (Form.LABEL, Form.IMAGE) else UserText(data)
