"""LoRA: a low-rank update of the weight.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("lora", rank=2), torch.eye(4)
>>> state = method.init(weight, Context.of_layer(weight))
>>> state["a"].shape, state["b"].shape, torch.equal(method.weight(state, weight), weight)
(torch.Size([2, 4]), torch.Size([4, 2]), True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    `A (rank, in)` starts uniform and `B (out, rank)` at zero. `scale` is `alpha / rank` (Hu et al. 2021, section 4.1).
    """

    name = "lora"
    title = "Low-rank adaptation"
    theme = Theme.RANK
    claim = "The change that a task needs is low-rank."
    paper = "https://arxiv.org/abs/2106.09685"
    size_knob = "rank"

    rank: int = 8
    """Rank of the update."""
    alpha: float = 16.0
    """Numerator of `scale`."""
    rslora: bool = False
    """True for `scale = alpha / sqrt(rank)` (rsLoRA, Kalajdzievski 2023)."""
    dropout: float = 0.0
    """Probability that an input feature of `A` is dropped in training mode."""
    lr_ratio: float = 1.0
    """Learning rate of `B` relative to that of `A`: LoRA+, whose authors take 16 (Hayou, Ghosh and Yu 2024)."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("rank")

    @property
    def lr_ratios(self) -> Mapping[str, float]:
        return {"b": self.lr_ratio}

    @property
    def scale(self) -> float:
        """Factor on `B A`."""
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
