"""LoRA: the change of a weight is low-rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class LoRA(LinearAdapter):
    """`W' = W + strength * scale * B A`.

    `A (rank, in)` starts uniform, `B (out, rank)` at zero. `scale` is `alpha / rank` (Hu et al. 2021, section 4.1), or
    `alpha / sqrt(rank)` with `rslora` (Kalajdzievski 2023). While the model trains, `A` sees its input under `dropout`.
    """

    name = "lora"
    title = "Low-rank adaptation"
    theme = Theme.RANK
    claim = "The change that a task needs is low-rank."
    paper = "https://arxiv.org/abs/2106.09685"
    size_knob = "rank"

    rank: int = 8
    alpha: float = 16.0
    rslora: bool = False
    dropout: float = 0.0

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("rank")

    @property
    def scale(self) -> float:
        """The factor on `B A`."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        return State(
            {
                "a": context.uniform(self.rank, columns, bound=columns**-0.5),
                "b": context.zeros(rows, self.rank),
            }
        )

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + strength * self.scale * (state["b"] @ state["a"])

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        return linear(x) + affine(affine(x, state["a"]) * (strength * self.scale), state["b"])

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        config = {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "use_rslora": self.rslora,
            "lora_dropout": self.dropout,
        }
        return per_site(config, sites, {"lora_A.weight": "a", "lora_B.weight": "b"}, transposable=True)
