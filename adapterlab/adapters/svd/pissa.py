"""PiSSA: a low-rank update whose factors start at the weight's principal singular components.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("pissa", rank=1), torch.diag(torch.tensor([1.0, 4.0]))
>>> state = method.init(weight, Context.of_layer(weight))
>>> (state["b"] @ state["a"]).round().abs()
tensor([[0., 0.],
        [0., 4.]])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.rank.lora import LoRA, peft_scale
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class PiSSA(LinearAdapter):
    """`W' = W + strength * (B A - B0 A0)`, where `B0 A0` is the best rank-`rank` approximation of `W`.

    `B0 (out, rank) = U sqrt(S)` and `A0 (rank, in) = sqrt(S) V^T`, of the top `rank` singular triplets, and `B` and `A`
    start there (Meng, Wang and Zhang 2024, equations 2 to 4). The paper stores the residual `W - B0 A0` as the new base;
    here the base is unchanged and the difference is added, which is the same map, and exactly the base at the start.
    """

    name = "pissa"
    title = "Principal singular values and vectors adaptation"
    theme = Theme.SVD
    claim = "The change that a task needs lies in the weight's principal singular components."
    paper = "https://arxiv.org/abs/2404.02948"
    size_knob = "rank"
    peft_kinds = ("LORA",)
    peft_transposable = True

    rank: int = 8
    """Number of singular components."""
    iterations: int = 0
    """Number of power iterations of a randomized decomposition (the paper's fast SVD, appendix B); 0 for the exact one."""

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
        # One pair of products with twice the rank costs less than two pairs.
        a, b = torch.cat([state["a"], state["a0"]]), torch.cat([state["b"], -state["b0"]], 1)
        return linear(x) + affine(affine(x, a) * strength, b)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        lora = [as_lora(site.state) for site in sites]
        plain = [replace(site, state=state) for site, (_, state) in zip(sites, lora, strict=True)]
        return lora[0][0].peft_layout(plain)

    @classmethod
    def from_peft(cls, source: PeftSource) -> PiSSA | None:
        settings = source.settings
        if settings.flag("use_dora") or settings.get("init_lora_weights") != "pissa":
            return None
        settings.only_at_start("megatron_core", "qalora_group_size")
        settings.only_in_training("lora_dropout")
        ranks = set(source.sizes("lora_A.weight"))
        if len(ranks) != 1:
            raise CannotLoadError(f"rank_pattern gives a PiSSA with the ranks {sorted(ranks)}, and here it has one")
        return cls(rank=ranks.pop())

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        root = peft_scale(site.source, site.path, self.rank) ** 0.5
        return {"a": root * site.take("lora_A.weight"), "b": root * site.take("lora_B.weight")}


def as_lora(state: State) -> tuple[LoRA, State]:
    """Return the plain LoRA of twice the rank with the same update as a PiSSA.

    `B A - B0 A0 = [B, -B0] [A; A0]` (Meng, Wang and Zhang 2024, appendix C, equation 10), so neither the base nor its
    residual has to be stored.

    Args:
        state: State of the PiSSA at one site.

    Returns:
        The LoRA, and its state at that site.
    """
    a, b = torch.cat([state["a"], state["a0"]]), torch.cat([state["b"], -state["b0"]], 1)
    return LoRA(rank=len(a), alpha=float(len(a))), State({"a": a.detach(), "b": b.detach()})
