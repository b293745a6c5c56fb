"""GraLoRA: a low-rank update of its own for each block of the weight.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("gralora", rank=2, blocks=2), torch.eye(4)
>>> state = method.init(weight, Context.of_layer(weight))
>>> state["a"].shape, state["b"].shape, torch.equal(method.weight(state, weight), weight)
(torch.Size([2, 2, 2]), torch.Size([2, 2, 2]), True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class GraLoRA(LinearAdapter):
    """`W'_ij = W_ij + strength * scale * B_ij A_ij`, for each of `blocks x blocks` blocks `W_ij` of the weight.

    The factors of a block have rank `rank / blocks`, so that all together are as large as those of a LoRA of rank `rank`,
    and the rank of the update may be `blocks` times as high (Jung et al. 2025). `a (blocks, rank, in / blocks)` holds the
    `A_ij` by `j`, stacked over `i`, and starts uniform; `b (blocks, out / blocks, rank)` holds the `B_ij` by `i`, side by
    side over `j`, and starts at zero. `hybrid_rank` adds a LoRA of this rank on the whole weight, `general_a` and
    `general_b`. `scale` is `alpha / (rank + hybrid_rank)`.
    """

    name = "gralora"
    title = "Granular low-rank adaptation"
    theme = Theme.RANK
    claim = "Groups of inputs need changes of their own, each low-rank, that do not share directions with other groups."
    paper = "https://arxiv.org/abs/2505.20355"
    size_knob = "rank"
    peft_kinds = ("GRALORA",)
    peft_transposable = True

    rank: int = 32
    """Sum of the ranks of the updates of one row of blocks, a multiple of `blocks`."""
    blocks: int = 2
    """Number of blocks along each side, a divisor of every side of the layers."""
    alpha: float = 64.0
    """Numerator of `scale`."""
    hybrid_rank: int = 0
    """Rank of the update of the whole weight; 0 for none."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        if self.hybrid_rank:
            return (IdentityAtInit(),)
        return IdentityAtInit(), RankAtMost("rank", self.blocks), BlocksOfLowRank()

    @property
    def scale(self) -> float:
        """Factor on the updates."""
        return self.alpha / (self.rank + self.hybrid_rank)

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(self.blocks, max(self.blocks, min(min(shape) for shape in shapes)) + 1, self.blocks)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if problem := super().validate(shapes):
            return problem
        if self.blocks < 1 or any(side % self.blocks for shape in shapes for side in shape):
            return f"blocks {self.blocks} does not divide every side of the layers: give a common divisor of them"
        if self.rank % self.blocks:
            return f"rank {self.rank} is not a multiple of blocks {self.blocks}: give one that is"
        if self.hybrid_rank < 0:
            return f"hybrid_rank {self.hybrid_rank} is negative: give 0 or more"
        return None

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape[0] // self.blocks, weight.shape[1] // self.blocks
        tensors = {
            "a": context.uniform(self.blocks, self.rank, columns, bound=columns**-0.5),
            "b": context.zeros(self.blocks, rows, self.rank),
        }
        if self.hybrid_rank:
            tensors["general_a"] = context.uniform(self.hybrid_rank, weight.shape[1], bound=weight.shape[1] ** -0.5)
            tensors["general_b"] = context.zeros(weight.shape[0], self.hybrid_rank)
        return State(tensors)

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        a, b = state["a"].unflatten(1, (self.blocks, -1)), state["b"].unflatten(2, (self.blocks, -1))
        change = torch.einsum("iojr,jirc->iojc", b, a).reshape(weight.shape)
        if self.hybrid_rank:
            change = change + state["general_b"] @ state["general_a"]
        return weight + strength * self.scale * change

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        hidden = torch.einsum("...jc,jrc->...jr", x.unflatten(-1, (self.blocks, -1)), state["a"])
        hidden = hidden.unflatten(-1, (self.blocks, -1)).transpose(-3, -2).flatten(-2)
        change = torch.einsum("...ir,ior->...io", hidden, state["b"]).flatten(-2)
        if self.hybrid_rank:
            change = change + affine(affine(x, state["general_a"]), state["general_b"])
        return linear(x) + strength * self.scale * change

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        config = {
            "peft_type": "GRALORA",
            "r": self.rank,
            "gralora_k": self.blocks,
            "alpha": self.alpha,
            "hybrid_r": self.hybrid_rank,
        }

        def tensors(site: PeftSite) -> dict[str, Tensor]:
            state = site.state
            found = {"gralora_A": state["a"].transpose(1, 2), "gralora_B": state["b"].transpose(1, 2)}
            if self.hybrid_rank:
                found |= {
                    "gralora_A_general.weight": state["general_a"],
                    "gralora_B_general.weight": state["general_b"],
                }
            return found

        return per_site(config, sites, tensors)

    @classmethod
    def from_peft(cls, source: PeftSource) -> GraLoRA | None:
        settings = source.settings
        settings.only_at_start("init_weights")
        settings.only_in_training("gralora_dropout")
        return cls(
            rank=settings.whole("r", 32),
            blocks=settings.whole("gralora_k", 2),
            alpha=settings.number("alpha", 64),
            hybrid_rank=settings.whole("hybrid_r"),
        )

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        found = {"a": site.take("gralora_A").transpose(1, 2), "b": site.take("gralora_B").transpose(1, 2)}
        if self.hybrid_rank:
            found["general_a"] = site.take("gralora_A_general.weight")
            found["general_b"] = site.take("gralora_B_general.weight")
        return found


@dataclass(frozen=True)
class BlocksOfLowRank(Invariant):
    """The change of each block has at most the rank `rank / blocks`."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, GraLoRA)
        blocks, rank = adapter.blocks, adapter.rank // adapter.blocks
        change = (after - before).double().unflatten(0, (blocks, -1)).unflatten(2, (blocks, -1)).transpose(1, 2)
        values = torch.linalg.svdvals(change)
        if rank >= values.shape[-1]:
            return 0.0
        return float(values[..., rank].max() / torch.linalg.matrix_norm(before.double(), 2))
