"""PiSSA: the principal singular components carry what a task needs to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.rank.lora import LoRA
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class PiSSA(LinearAdapter):
    """`W' = W + strength * (B A - B0 A0)`, where `B0 A0` is the best rank-`rank` approximation of `W`.

    `B0 = U sqrt(S)` and `A0 = sqrt(S) V^T` of the top `rank` singular triplets, and `B`, `A` start there (Meng, Wang and
    Zhang 2024, equations 2 to 4). The paper stores the residual `W - B0 A0` as the new base; here the base keeps its own
    bits and the difference is added, which is the same map and exactly the base at the start.

    With `iterations` above 0 the triplets come from a randomized decomposition of so many power iterations (the paper's
    fast SVD, appendix B), unless the full one is known already.
    """

    name = "pissa"
    title = "Principal singular values and vectors adaptation"
    theme = Theme.SVD
    claim = "The weight's principal singular components carry the change that a task needs."
    paper = "https://arxiv.org/abs/2404.02948"
    size_knob = "rank"

    rank: int = 8
    iterations: int = 0

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("rank", factor=2)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        u, s, vt = context.svd(weight, self.rank, self.iterations or None)
        root = s.sqrt()
        b, a = u * root, root[:, None] * vt
        return State({"a": a, "b": b}, {"a0": a.clone(), "b0": b.clone()})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + strength * (state["b"] @ state["a"] - state["b0"] @ state["a0"])

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        # One pair of products of twice the rank costs less than two pairs.
        a, b = torch.cat([state["a"], state["a0"]]), torch.cat([state["b"], -state["b0"]], 1)
        return linear(x) + affine(affine(x, a) * strength, b)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        lora = [as_lora(site.state) for site in sites]
        plain = [replace(site, state=state) for site, (_, state) in zip(sites, lora, strict=True)]
        return lora[0][0].peft_layout(plain)


def as_lora(state: State) -> tuple[LoRA, State]:
    """The plain LoRA of twice the rank that changes the base as a PiSSA in this state does.

    `B A - B0 A0 = [B, -B0] [A; A0]` (Meng, Wang and Zhang 2024, appendix C, equation 10), so that neither the base nor
    its residual has to be stored.
    """
    a, b = torch.cat([state["a"], state["a0"]]), torch.cat([state["b"], -state["b0"]], 1)
    return LoRA(rank=len(a), alpha=float(len(a))), State({"a": a.detach(), "b": b.detach()})
