"""Training on pairs of prefixes instead of on text: the objective of AntiPaSTO, as a loss that any trainer can minimize.

Nothing is labelled and nothing generated: two prefixes differ by a word, and what the model makes of that difference is to
move one way at strength +1 and the other way at -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adapterlab.adapters.svd.antipasto import Answers, steering_loss
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import Handle


class Pairs(NamedTuple):
    """A batch of pairs: the model's own arguments for both halves, and two words that could come next."""

    chosen: Mapping[str, Tensor]
    """`input_ids (pairs, tokens)` and `attention_mask`, as the model takes them."""
    rejected: Mapping[str, Tensor]
    yes: Int[Tensor, " pairs"]
    """The next token that the chosen word speaks for."""
    no: Int[Tensor, " pairs"]
    """The next token that the rejected word speaks for."""


@dataclass(frozen=True)
class SteeringObjective:
    """The loss of AntiPaSTO on a model that an adapter stands on (Clark 2026, section 3.3 and algorithm 1).

    Hidden states are those at the last token of a prefix, behind the block at `depth` of the model's height. Their
    differences count within `subspace (width, k)`, orthonormal columns such as `task_subspace` gives; without one, as they
    are. The order of the preferences counts from `warmup` of the way on (appendix A.1). The rest is as in `steering_loss`.

    The backward pass knows nothing of the strength, so a model under gradient checkpointing is refused.
    """

    subspace: Float[Tensor, "width k"] | None = None
    depth: float = 0.9
    warmup: float = 0.5
    margin: float = 0.0
    kappa: float = 0.3
    beta: float = 0.1
    barrier: float = 1.0
    temperature: float = 3.0
    order: float = 1.0
    order_margin: float = 0.02

    def __call__(self, handle: Handle, pairs: Pairs, progress: float = 1.0) -> Float[Tensor, ""]:
        """The loss at strengths 0, +1 and -1; `progress` says how much of the training is done, from 0 to 1.

        The strength is afterwards what it was. Raises `AdapterlabError` for a method that has no strength of -1.
        """
        if getattr(handle.model, "is_gradient_checkpointing", False):
            raise AdapterlabError("the steering objective runs at two strengths: turn gradient checkpointing off")
        if problem := handle.adapter.strength_problem(-1.0):
            raise AdapterlabError(f"{handle.adapter.name} cannot be steered both ways: {problem}")
        before = handle.strength
        try:
            with torch.no_grad(), handle.disabled():
                base = self.answers(handle, pairs)
            handle.strength = 1.0
            plus = self.answers(handle, pairs)
            handle.strength = -1.0
            minus = self.answers(handle, pairs)
        finally:
            handle.strength = before
        return steering_loss(
            base,
            plus,
            minus,
            self.subspace,
            margin=self.margin,
            kappa=self.kappa,
            beta=self.beta,
            barrier=self.barrier,
            temperature=self.temperature,
            order=self.order if progress >= self.warmup else 0.0,
            order_margin=self.order_margin,
        )

    def answers(self, handle: Handle, pairs: Pairs) -> Answers:
        """What the model makes of the pairs at its present strength."""
        ends, logits = [], []
        for half in (pairs.chosen, pairs.rejected):
            answer = handle.model(**half, output_hidden_states=True)
            states = answer.hidden_states
            ids = half["input_ids"]
            mask = half.get("attention_mask", torch.ones_like(ids)).bool()
            last = (torch.arange(ids.shape[1], device=ids.device) * mask).amax(1)
            each = torch.arange(len(ids), device=ids.device)
            ends.append(states[round(self.depth * (len(states) - 1))][each, last].float())
            logits.append((answer.logits.float().log_softmax(-1), mask, each, last))
        log_probabilities, _, each, last = logits[0]
        following = log_probabilities[each, last]
        gap = following[each, pairs.yes] - following[each, pairs.no]
        return Answers(ends[0], ends[1], torch.cat([found[mask] for found, mask, _, _ in logits]), gap)


@torch.no_grad()
def task_subspace(answers: Answers, rank: int = 8) -> Float[Tensor, "width k"]:
    """The `rank` directions in which chosen and rejected prefixes differ most over these pairs (appendix A.1).

    The paper narrows them further, to what later layers erase and what the adapted layers can write.
    """
    apart = answers.chosen - answers.rejected
    return torch.linalg.svd(apart, full_matrices=False)[2][:rank].T
