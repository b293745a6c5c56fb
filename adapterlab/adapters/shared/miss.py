"""MiSS: an update that repeats one matrix along a side of the weight.

>>> from adapterlab.adapters import State, adapter
>>> method, d = adapter("miss", rank=2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
>>> method.weight(State({"d": d}), torch.zeros(2, 5))
tensor([[1., 2., 1., 2., 1.],
        [3., 4., 3., 4., 3.]])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine
from torch.nn.functional import pad

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class MiSS(LinearAdapter):
    """`W' = W + strength * expand(D)`: column `c` of `expand(D)` is column `c % rank` of `D (out, rank)`, which starts at 0.

    `D` is therefore applied to the sum of the input's blocks of `rank` features; the last block may be shorter (Kang and
    Yin 2025, equations 4 to 7, their efficient form).
    """

    name = "miss"
    title = "Matrix shard sharing"
    theme = Theme.SHARED
    claim = "Shards of a weight need the same change."
    paper = "https://arxiv.org/abs/2409.15371"
    size_knob = "rank"
    peft_kinds = ("MISS",)

    rank: int = 64
    """Number of different columns of the update."""
    efficient: bool = True
    """False for the paper's first form (equations 2 and 3): `D (rank, in)`, and the outputs are split into `rank` shards of
    nearly equal size, where every row of shard `i` is row `i` of `D`."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("rank")

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        return State({"d": context.zeros(rows, self.rank) if self.efficient else context.zeros(self.rank, columns)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        rows, columns = weight.shape
        if self.efficient:
            expanded = state["d"].repeat(1, -(-columns // self.rank))[:, :columns]
        else:
            expanded = state["d"][self.shards(rows, weight.device)]
        return weight + strength * expanded

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        if self.efficient:
            missing = -x.shape[-1] % self.rank
            whole = pad(x, (0, missing)) if missing else x  # `pad` copies even if there is nothing to add
            return linear(x) + affine(strength * torch.unflatten(whole, -1, (-1, self.rank)).sum(-2), state["d"])
        base = linear(x)
        return base + affine(x, strength * state["d"])[..., self.shards(base.shape[-1], x.device)]

    def shards(self, rows: int, device: torch.device) -> Tensor:
        """Return the number of the shard that each output belongs to.

        Args:
            rows: Number of output features.
            device: Device of the result.
        """
        return torch.arange(rows, device=device) * self.rank // rows

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        if not self.efficient:
            raise CannotExportError("PEFT has only the efficient form")
        config = {"peft_type": "MISS", "r": self.rank}
        return per_site(config, sites, lambda site: {"miss_block": site.state["d"].T})

    @classmethod
    def from_peft(cls, source: PeftSource) -> MiSS | None:
        settings = source.settings
        if settings.get("init_weights", True) not in (True, False):
            return None
        settings.only_at_start("mini_r")  # of another variant
        settings.only_in_training("miss_dropout")
        return cls(rank=settings.whole("r", 64))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        return {"d": site.take("miss_block").T}
