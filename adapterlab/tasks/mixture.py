"""`mixture`: several tasks in one, for adapters that route between tasks or skills."""

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
from adapterlab.tasks.text import TextTask, Tokenizer, score_text

TASK_IDS = "task_ids"
"""The place of an example's task among the components; only a routed adapter is told."""

MOST = 2048
"""Examples to train on that each task gives at most."""


@dataclass(frozen=True)
class Mixed(Examples):
    """Examples of several tasks, in turns, and the same ones sorted by task."""

    of: tuple[Examples, ...] = ()


class Mixture(TextTask):
    """Restyled code, documentation, facts and algorithms, in equal numbers of examples.

    A subclass with other `components` is another mixture; they must be tasks about text. Poly needs as many `tasks` as
    there are components; X-LoRA finds out by itself.
    """

    name = "mixture"
    title = "Four tasks in one"
    explanation = (
        "Interference, and what tasks can share: one adapter for a style, a domain, facts and algorithms at once. "
        "Adapters that route are told which task an example is from. Out of domain: that of each task."
    )
    unit = "nats per byte, the mean over the tasks"
    components: ClassVar[tuple[type[TextTask], ...]] = (Restyle, Prose, Facts, Algorithm)

    def text_examples(self, part: Part, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        """`count` examples in turns; in training the smaller tasks start again, so that no batch has fewer of them."""
        share = -(-count // len(self.components))
        if part is Part.TRAIN:
            share = min(share, MOST)
        each = [kind().examples(part, tokenizer, length, share) for kind in self.components]
        if part is Part.TRAIN:
            most = max(map(len, each))
            each = [Examples(e.rows(torch.arange(most) % len(e)), e.size) for e in each]
        return mixed(each, count)

    def base_domain(self, tokenizer: Tokenizer, length: int, count: int) -> Examples:
        """The base's own domain, shared out among the tasks, since a routed adapter must be told one."""
        base = super().base_domain(tokenizer, length, count)
        ids = torch.arange(len(base)) % len(self.components)
        return Examples({**base.inputs, TASK_IDS: ids}, base.size)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return super().loss(model, addressed(batch, model))

    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        """The mean over the tasks of each one's own loss and accuracy."""
        parts = examples.of if isinstance(examples, Mixed) else (examples,)
        scores = [score_text(model, Examples(addressed(own.inputs, model), own.size)) for own in parts]
        return Scores(*(sum(values) / len(scores) for values in zip(*scores, strict=True)))

    def fingerprint(self) -> str:
        return "; ".join(f"{kind.name}: {kind().fingerprint()}" for kind in self.components)


def mixed(each: Sequence[Examples], count: int) -> Mixed:
    """The examples of several tasks in turns, padded on the right to the longest, with the place of their task."""
    width = max(e.inputs["input_ids"].shape[1] for e in each)
    of = tuple(_placed(e, i, width) for i, e in enumerate(each))
    turns = [[(i, row) for row in range(len(e))] for i, e in enumerate(of)]
    order = [at for turn in zip_longest(*turns) for at in turn if at is not None][:count]
    starts = torch.tensor([0, *(len(e) for e in of)]).cumsum(0)
    rows = torch.tensor([int(starts[i]) + row for i, row in order])
    whole = {name: torch.cat([e.inputs[name] for e in of])[rows] for name in of[0].inputs}
    return Mixed(whole, sum(e.size for e in of), of)


def _placed(examples: Examples, place: int, width: int) -> Examples:
    inputs = {name: pad(t, (0, width - t.shape[1])) for name, t in examples.inputs.items()}
    return Examples({**inputs, TASK_IDS: torch.full((len(examples),), place)}, examples.size)


def addressed(batch: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The batch as the model takes it: with the tasks only if something on it routes by them."""
    return {name: tensor for name, tensor in batch.items() if name != TASK_IDS or is_routed(model)}
