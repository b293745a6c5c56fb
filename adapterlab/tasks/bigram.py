"""What a task asks of a model that learns nothing but which token follows which."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import csr_array
from torch import Tensor, nn

from adapterlab.tasks.base import Examples, Part, Scores, Task

PRIOR = 100.0
"""How many tokens of evidence the unigrams are worth in the bigrams of a token."""
NO_LIMIT = 1 << 30
"""More examples than any task has."""


class Bigram(nn.Module):
    """Token frequencies after the last token, in a causal language model's clothes.

    `p(b | a) = (n(a, b) + PRIOR p(b)) / (n(a) + PRIOR)` and `p(b) = (n(b) + 1) / (n + V)`, with `n` the counts over the
    scored tokens of some examples and `V` the tokens of the vocabulary (Dirichlet smoothing: MacKay and Peto 1995).

    For pairs `strength` turns from one continuation's counts to the other's: `n` is `(1 + strength) / 2` times those of
    the chosen and `(1 - strength) / 2` times those of the rejected.
    """

    def __init__(self, examples: Examples, vocabulary: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)
        """Says on which device the model is."""
        self.strength = 1.0
        inputs = examples.inputs
        sides = ("",) if "input_ids" in inputs else ("chosen_", "rejected_")
        self._counts = [_counted(inputs[f"{side}input_ids"], inputs[f"{side}scored"], vocabulary) for side in sides]

    def forward(self, input_ids: Int[Tensor, "batch tokens"], **_: Any) -> SimpleNamespace:
        """`logits (batch, tokens, vocabulary)`, which are log-probabilities."""
        counts = self._counts[0]
        if len(self._counts) == 2:
            counts = (1 + self.strength) / 2 * counts + (1 - self.strength) / 2 * self._counts[1]
        single = counts.sum(0)
        prior = (single + 1) / (single.sum() + len(single))
        seen, places = np.unique(input_ids.numpy(), return_inverse=True)
        rows = counts[seen].toarray()
        table = np.log((rows + PRIOR * prior) / (rows.sum(1, keepdims=True) + PRIOR))
        return SimpleNamespace(logits=torch.from_numpy(table)[torch.from_numpy(places).reshape(input_ids.shape)])


def _counted(ids: Int[Tensor, "rows tokens"], scored: Tensor, vocabulary: int) -> csr_array:
    marks = scored[:, 1:]
    pairs = ids[:, :-1][marks].numpy(), ids[:, 1:][marks].numpy()
    return csr_array((np.ones(len(pairs[0])), pairs), shape=(vocabulary, vocabulary))


def bigram_scores(task: Task, processor: Any, length: int, count: int) -> Mapping[Part, Scores]:
    """What a bigram model, counted on the training part, scores on at most `count` examples of every other part."""
    model = Bigram(task.examples(Part.TRAIN, processor, length, NO_LIMIT), len(processor))
    return {
        part: task.score(model, task.examples(part, processor, length, count), cast(Any, model)) for part in task.parts
    }
