"""A baseline that learns nothing except which token follows which."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import csr_array
from torch import Tensor, nn

from adapterlab.tasks.base import Examples, Part, Scores, Task
from adapterlab.tasks.text import Tokenizer

PRIOR = 100.0
"""Weight of the unigram frequencies in each bigram distribution, as a number of observed tokens."""
NO_LIMIT = 1 << 30
"""Number of examples greater than that of any task."""


class Bigram(nn.Module):
    """Smoothed frequencies of tokens after the previous token, with the interface of a causal language model.

    `p(b | a) = (n(a, b) + PRIOR p(b)) / (n(a) + PRIOR)` and `p(b) = (n(b) + 1) / (n + V)`, with `n` the counts over the
    scored tokens of the examples and `V` the size of the vocabulary (Dirichlet smoothing: MacKay and Peto 1995).

    For paired examples (`chosen_input_ids`, `rejected_input_ids`), `n` is `(1 + strength) / 2` times the counts of the
    chosen texts plus `(1 - strength) / 2` times those of the rejected texts.

    Args:
        examples: Examples to count.
        vocabulary: Number of tokens of the tokenizer.

    Example:
        >>> ids = torch.tensor([[1, 2, 1, 2]])
        >>> model = Bigram(Examples({"input_ids": ids, "scored": ids > 0}, size=3), vocabulary=3)
        >>> model(torch.tensor([[1]])).logits.exp().argmax(-1)
        tensor([[2]])
    """

    def __init__(self, examples: Examples, vocabulary: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)
        """Unused parameter that tells callers the device of the model."""
        self.strength = 1.0
        inputs = examples.inputs
        sides = ("",) if "input_ids" in inputs else ("chosen_", "rejected_")
        self._counts = [_counts(inputs[f"{side}input_ids"], inputs[f"{side}scored"], vocabulary) for side in sides]

    def forward(self, input_ids: Int[Tensor, "batch tokens"], **_: object) -> SimpleNamespace:
        """Return an object whose `logits (batch, tokens, vocabulary)` are log-probabilities in float64.

        Args:
            input_ids: Token ids.
        """
        counts = self._counts[0]
        if len(self._counts) == 2:
            counts = (1 + self.strength) / 2 * counts + (1 - self.strength) / 2 * self._counts[1]
        single = counts.sum(0)
        prior = (single + 1) / (single.sum() + len(single))
        seen, places = np.unique(input_ids.numpy(), return_inverse=True)
        rows = counts[seen].toarray()
        table = np.log((rows + PRIOR * prior) / (rows.sum(1, keepdims=True) + PRIOR))
        return SimpleNamespace(logits=torch.from_numpy(table)[torch.from_numpy(places).reshape(input_ids.shape)])


def _counts(ids: Int[Tensor, "rows tokens"], scored: Tensor, vocabulary: int) -> csr_array:
    """Return the counts `(previous token, next token)` over the scored tokens."""
    mask = scored[:, 1:]
    pairs = ids[:, :-1][mask].numpy(), ids[:, 1:][mask].numpy()
    return csr_array((np.ones(len(pairs[0])), pairs), shape=(vocabulary, vocabulary))


def bigram_scores(task: Task, tokenizer: Tokenizer, length: int, count: int) -> Mapping[Part, Scores]:
    """Count bigrams on the training part and score them on every scored part.

    Args:
        task: A task on text.
        tokenizer: The tokenizer that the examples are encoded with.
        length: Largest number of tokens in an example.
        count: Largest number of examples per scored part.

    Returns:
        Loss and accuracy of the bigram model by part, in the order of `task.parts`.
    """
    model = Bigram(task.examples(Part.TRAIN, tokenizer, length, NO_LIMIT), len(tokenizer))
    return {part: task.score(model, task.examples(part, tokenizer, length, count), model) for part in task.parts}
