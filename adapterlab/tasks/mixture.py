"""The `mixture` task: several tasks in one, for adapters that route between tasks or skills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from adapterlab.surgery.sites.routed import is_routed
from adapterlab.tasks.algorithm import Algorithm
from adapterlab.tasks.base import Control, Examples, Part, Scores
from adapterlab.tasks.facts import Facts
from adapterlab.tasks.prose import Prose
from adapterlab.tasks.restyle import Restyle
from adapterlab.tasks.scoring import score_text
from adapterlab.tasks.text import TextTask, Tokenizer

TASK_IDS = "task_ids"
"""Name of the input that holds the index of each example's task among the components."""

MOST_PER_TASK = 2048
"""Largest number of training examples from one task."""


@dataclass(frozen=True)
class Mixed(Examples):
    """Examples of several tasks, taking turns."""

    by_task: tuple[Examples, ...] = ()
    """The examples of each task on their own."""


class Mixture(TextTask):
    """Restyled code, documentation, facts and algorithms, in equal numbers of examples.

    For another mixture, subclass this and set other `components`. The adapter Poly needs its setting `tasks` to equal the
    number of components; X-LoRA needs no setting.
    """

    name = "mixture"
    title = "Four tasks in one"
    explanation = (
        "Interference and sharing between tasks: one adapter learns a style, a domain, facts and algorithms at once. "
        "Adapters that route are told which task each example comes from. Out of domain: the out-of-domain parts of the "
        "four tasks."
    )
    unit = "nats per byte, the mean over the tasks"
    components: ClassVar[tuple[type[TextTask], ...]] = (Restyle, Prose, Facts, Algorithm)
    """Task classes to mix, all of them about text."""

    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        # In training the examples of smaller tasks are repeated, so that every batch has equal shares of all tasks.
        share = -(-count // len(self.components))
        if part is Part.TRAIN:
            share = min(share, MOST_PER_TASK)
        each = [kind().examples(part, tokenizer, length, share) for kind in self.components]
        if part is Part.TRAIN:
            most = max(map(len, each))
            each = [Examples(e.rows(torch.arange(most) % len(e)), e.size) for e in each]
        return interleave(each, count)

    def base_domain(self, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        # A routed adapter needs a task for every example, so the tasks share out the base model's domain.
        base = super().base_domain(tokenizer, length, count)
        ids = torch.arange(len(base)) % len(self.components)
        return Examples({**base.inputs, TASK_IDS: ids}, base.size)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return super().loss(model, model_inputs(batch, model))

    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        # The mean of the tasks' own scores, so that each task has the same weight; the rows follow task by task.
        groups = examples.by_task if isinstance(examples, Mixed) else (examples,)
        scores = [score_text(model, Examples(model_inputs(group.inputs, model), group.size)) for group in groups]
        count, parts = sum(len(each.rows) for each in scores), len(scores)
        rows = tuple(row * (count / (parts * len(each.rows))) for each in scores for row in each.rows)
        loss, accuracy = (sum(values) / parts for values in zip(*(each[:2] for each in scores), strict=True))
        return Scores(loss, accuracy, rows if all(each.rows for each in scores) else ())

    def fingerprint(self) -> str:
        return "; ".join(f"{kind.name}: {kind().fingerprint()}" for kind in self.components)


def interleave(each: Sequence[Examples], count: int) -> Mixed:
    """Put the examples of several tasks into one sequence in which the tasks take turns.

    Args:
        each: Examples of each task, with inputs `(examples, tokens)`; shorter ones are padded on the right with zeros.
        count: Largest number of examples in the sequence.

    Returns:
        The sequence, with the index of each example's task under `TASK_IDS`.

    Example:
        >>> def filled(value, rows):
        ...     return Examples({"input_ids": torch.full((rows, 2), value)}, size=rows)
        >>> mixed = interleave([filled(5, rows=3), filled(7, rows=1)], count=10)
        >>> mixed.inputs["input_ids"][:, 0].tolist(), mixed.inputs["task_ids"].tolist()
        ([5, 7, 5, 5], [0, 1, 0, 0])
    """
    width = max(e.inputs["input_ids"].shape[1] for e in each)
    by_task = tuple(_with_task_id(e, i, width) for i, e in enumerate(each))
    turns = [[(i, row) for row in range(len(e))] for i, e in enumerate(by_task)]
    order = [place for turn in zip_longest(*turns) for place in turn if place is not None][:count]
    starts = torch.tensor([0, *(len(e) for e in by_task)]).cumsum(0)
    rows = torch.tensor([int(starts[i]) + row for i, row in order])
    inputs = {name: torch.cat([e.inputs[name] for e in by_task])[rows] for name in by_task[0].inputs}
    return Mixed(inputs, sum(e.size for e in by_task), by_task=by_task)


def _with_task_id(examples: Examples, index: int, width: int) -> Examples:
    whole = {"attention_mask": torch.ones_like(examples.inputs["input_ids"]), **examples.inputs}
    inputs = {name: pad(t, (0, width - t.shape[1])) for name, t in whole.items()}
    return Examples({**inputs, TASK_IDS: torch.full((len(examples),), index)}, examples.size)


def model_inputs(batch: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return a batch with its task indices only if the model routes by them.

    Args:
        batch: Inputs by name, with or without `TASK_IDS`.
        model: The model with its adapter.
    """
    return {name: tensor for name, tensor in batch.items() if name != TASK_IDS or is_routed(model)}
