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
from adapterlab.adapters.peft_source import PeftSource, PeftStored, padded
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
    peft_kinds = ("LORA",)
    peft_transposable = True

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
        return per_site(config, sites, {"lora_A.weight": "a", "lora_B.weight": "b"})

    @classmethod
    def from_peft(cls, source: PeftSource) -> LoRA | None:
        settings = source.settings
        if settings.flag("use_dora") or settings.get("init_lora_weights", True) not in STARTS_ON_THE_BASE:
            return None
        settings.only_at_start("eva_config", "megatron_core", "qalora_group_size")
        rank = max(source.sizes("lora_A.weight"), default=0)
        return cls(
            rank=rank,
            alpha=settings.number("lora_alpha", 8),
            rslora=settings.flag("use_rslora"),
            dropout=settings.number("lora_dropout"),
        )

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        # A layer with another rank is filled up with zeros, which get no gradient; another scale is multiplied into B.
        a, b = site.take("lora_A.weight"), site.take("lora_B.weight")
        scale = peft_scale(site.source, site.path, len(a)) / self.scale
        return {"a": padded(a, self.rank, 0), "b": padded(b * scale, self.rank, 1)}


STARTS_ON_THE_BASE: Sequence[object] = (True, False, "gaussian", "orthogonal", "eva")
"""PEFT's starts of a LoRA that leave the base weight as it is."""


def peft_scale(source: PeftSource, path: str, rank: int) -> float:
    """Return PEFT's factor on `B A` at one layer.

    Args:
        source: A LoRA of PEFT.
        path: Path of the layer; empty for the factor without `alpha_pattern`.
        rank: Rank at this layer.
    """
    settings = source.settings
    settings.get("r"), settings.get("rank_pattern")  # the tensors have the ranks
    alpha = settings.at(path, "alpha_pattern", settings.number("lora_alpha", 8))
    return alpha / (rank**0.5 if settings.flag("use_rslora") else rank)
