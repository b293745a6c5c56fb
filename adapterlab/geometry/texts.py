"""Inputs for measures in activations: the texts of a task, general text, or the user's.

>>> from adapterlab.models.loading import load
>>> [batch] = inputs_of_texts(["import os", "import sys, re"], load().tokenizer)
>>> batch["input_ids"].shape == batch["attention_mask"].shape
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import padding
from adapterlab.tasks.base import Examples, Part, Task

LENGTH, COUNT, BATCH = 128, 32, 8
"""Tokens of an example, examples, and examples of a batch."""
_INPUTS = ("input_ids", "attention_mask", "pixel_values")


def inputs_of(
    task: Task, part: Part, processor: Any, *, length: int = LENGTH, count: int = COUNT, batch: int = BATCH
) -> list[dict[str, Tensor]]:
    """Return inputs of a model in batches: examples of a task, without labels.

    `Part.BASE` is general text, the same for most tasks: the domain of the base model, where a rise of the loss is
    forgetting. `Part.TEST` is the task's own text.

    Args:
        task: The task. Of a task of pairs, the chosen texts are taken.
        part: Part of its data.
        processor: The model's tokenizer, or its image processor.
        length: Largest number of tokens in an example.
        count: Largest number of examples.
        batch: Examples of a batch.

    Raises:
        AdapterlabError: The task has no such part, or its examples hold neither tokens nor images.
    """
    if part not in (*task.parts, Part.TRAIN):
        raise AdapterlabError(f"task {task.name!r} has no part {part}: give one of {', '.join(task.parts)}")
    return batches_of(task.examples(part, processor, length, count), batch, task.name)


def inputs_of_texts(
    texts: Sequence[str], tokenizer: Any, *, length: int = LENGTH, batch: int = BATCH
) -> list[dict[str, Tensor]]:
    """Return inputs of a model in batches: the first tokens of each text, padded on the right.

    Args:
        texts: The texts; empty ones are left out.
        tokenizer: The model's tokenizer.
        length: Tokens of a text, at most.
        batch: Texts of a batch.

    Raises:
        AdapterlabError: No text has a token.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    rows = [ids[:length] for ids in encoded if ids]
    if not rows:
        raise AdapterlabError("there is no text to measure on: give at least one that is not empty")
    width, filler = max(map(len, rows)), padding(tokenizer)
    inputs = {
        "input_ids": torch.tensor([ids + [filler] * (width - len(ids)) for ids in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in rows]),
    }
    return batches_of(Examples(inputs, len(rows)), batch, "texts")


def batches_of(examples: Examples, batch: int, name: str) -> list[dict[str, Tensor]]:
    """Return the inputs of examples in batches.

    Args:
        examples: The examples.
        batch: Examples of a batch.
        name: Name of their source, for the error.

    Raises:
        AdapterlabError: The examples hold neither tokens nor images.
    """
    taken = _taken(examples.inputs)
    if not taken:
        raise AdapterlabError(
            f"{name}: the examples hold neither tokens nor images, but {', '.join(examples.inputs)}: give texts instead"
        )
    return [
        {name: tensor[start : start + batch] for name, tensor in taken.items()}
        for start in range(0, len(examples), batch)
    ]


def _taken(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = "chosen_" if "chosen_input_ids" in inputs else ""
    found = {name: inputs[f"{prefix}{name}"] for name in _INPUTS if f"{prefix}{name}" in inputs}
    return found if "input_ids" in found or "pixel_values" in found else {}
