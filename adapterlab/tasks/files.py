r"""Tasks made from a user's files.

Example:
    >>> import json, tempfile
    >>> rows = [{"prompt": f"{i} + 1 = ", "completion": str(i + 1)} for i in range(20)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "sums.jsonl"
    ...     _ = path.write_text("\n".join(map(json.dumps, rows)))
    ...     task = task_of(FileData("sums", train=str(path)))
    >>> task.name, type(task).__name__
    ('sums', 'UserText')
"""

from __future__ import annotations

from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.tasks.answer_metrics import title_of
from adapterlab.tasks.base import Task
from adapterlab.tasks.parts import FileData, forget_changed, parts_of
from adapterlab.tasks.rows import Form, read
from adapterlab.tasks.user_labels import UserLabels
from adapterlab.tasks.user_text import UserText

__all__ = ["FileData", "forget_changed", "parts_of", "task_of"]


def task_of(data: FileData) -> Task:
    """Return the task for some files: language modelling for text, classification for rows with labels.

    Only the training file is read here; the other files are read when examples are asked for.

    Args:
        data: The name of the task and the paths of its files.

    Raises:
        AdapterlabError: If the training file is missing or malformed, or has no answers for a metric; the message names the
            fix.
    """
    form, _ = read(Path(data.train))
    if data.metric and form in (Form.LABEL, Form.IMAGE):
        raise AdapterlabError(
            f"{data.train}: rows of {form} are classified, and the accuracy is reported anyway: leave the metric out"
        )
    if data.metric and form is Form.TEXT:
        raise AdapterlabError(
            f"{data.train}: running text has no answers that could be scored by {title_of(data.metric)}: give 'prompt' and "
            "'completion', or 'messages', or leave the metric out"
        )
    return UserLabels(data, form) if form in (Form.LABEL, Form.IMAGE) else UserText(data)
