"""Notes on a study's own data: rows left out, rows that resemble scored ones, rows and prompts that are too long.

>>> from adapterlab.lab.study.spec import Study
>>> data_notes(Study(name="mine", tasks=("prose",), contestants=({"adapter": "lora"},)))
()
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoTokenizer

from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.score import ANSWERED
from adapterlab.models.fingerprint import place_of
from adapterlab.tasks import task
from adapterlab.tasks.base import Task
from adapterlab.tasks.files import task_of
from adapterlab.tasks.generation import cut_prompts, room_in
from adapterlab.tasks.parts import parts_of
from adapterlab.tasks.rows import Form
from adapterlab.tasks.truncation import truncations


def data_notes(study: Study) -> tuple[str, ...]:
    """Return the notes in words, one sentence each.

    Args:
        study: The study.

    Raises:
        AdapterlabError: A file is missing or malformed, or no prompt of a task with a metric fits the model's context.
    """
    notes = []
    for entry in (entry for entry in study.data if entry.name in study.tasks):
        parts = parts_of(entry.files)
        found = [*parts.notes]
        if parts.form not in (Form.TEXT, Form.IMAGE):
            found += truncations(parts.rows, parts.form, _tokenizer(study.model), study.training.length)
        notes += [f"{entry.name}: {note}." for note in found]
    own = {entry.name: entry.files for entry in study.data}
    for name in study.tasks:
        found_task = task_of(own[name]) if name in own else task(name)
        if found_task.metric:
            room = room_in(_config(study.model), found_task.max_new_tokens)
            found = answer_notes(found_task, _tokenizer(study.model), room, study.report.metric_rows)
            notes += [f"{name}: {note}." for note in found]
    return tuple(notes)


def answer_notes(task: Task, processor: Any, room: int, rows: int) -> list[str]:
    """Return notes on prompts that lose their start, since the model's context has no room for them beside an answer.

    Args:
        task: A task with a metric.
        processor: The model's tokenizer.
        room: Tokens of a prompt that the context has room for.
        rows: Answers generated for each part, at most.

    Raises:
        AdapterlabError: If no prompt of a part fits, or the task has no prompts with answers.
    """
    notes = []
    for part in (part for part in ANSWERED if part in task.parts):
        questions = task.questions(part, processor, rows)
        if cut := cut_prompts(questions, room):
            found = (
                f"{cut:,} of {len(questions):,} prompts of {part} that are answered {'has' if cut == 1 else 'have'} more "
                f"than the {room:,} tokens that the model's context has beside an answer of {task.max_new_tokens}"
            )
            if cut == len(questions):
                raise AdapterlabError(f"{task.name}: {found}: give shorter prompts, or a smaller max_new_tokens")
            notes.append(f"{found}: {'its' if cut == 1 else 'their'} start is left out")
    return notes


def _tokenizer(model: str) -> Any:
    where, revision = place_of(model)
    settings = {} if revision is None else {"revision": revision}
    return AutoTokenizer.from_pretrained(where, trust_remote_code=False, **settings)


def _config(model: str) -> Any:
    where, revision = place_of(model)
    settings = {} if revision is None else {"revision": revision}
    return AutoConfig.from_pretrained(where, trust_remote_code=False, **settings)
