"""HiRA: the weight multiplied, entry by entry, by one plus a low-rank matrix.

>>> import torch
>>> from adapterlab.adapters import State, adapter
>>> method, weight = adapter("hira", rank=1), torch.eye(2)
>>> method.weight(State({"a": torch.ones(1, 2), "b": torch.tensor([[0.5], [0.0]])}), weight)
tensor([[1.5000, 0.0000],
        [0.0000, 1.0000]])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored, padded
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class HiRA(LinearAdapter):
    """`W' = W * (1 + strength * B A)`, with `*` the product of entries.

    `A (rank, in)` starts uniform and `B (out, rank)` at zero. The change `W * (B A)` may have any rank, since the rank of a
    product of entries is bounded by the product of the ranks (Huang et al. 2025). There is no scale.
    """

    name = "hira"
    title = "Hadamard high-rank adaptation"
    theme = Theme.RANK
    claim = "A task needs a change of high rank, in proportion to the weights that the model already has."
    paper = "https://openreview.net/forum?id=TwJrTz9cRS"
    size_knob = "rank"
    peft_kinds = ("HIRA",)
    peft_transposable = True

    rank: int = 32
    """Rank of the factor `B A`."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), FactorOfLowRank()

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        return State(
            {
                "a": context.uniform(self.rank, columns, bound=columns**-0.5),
                "b": context.zeros(rows, self.rank),
            }
        )

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + strength * weight * (state["b"] @ state["a"])

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        return per_site({"peft_type": "HIRA", "r": self.rank}, sites, {"hira_A": "a", "hira_B": "b"})

    @classmethod
    def from_peft(cls, source: PeftSource) -> HiRA | None:
        source.settings.only_at_start("init_weights", "r", "rank_pattern")  # the tensors have the ranks
        source.settings.only_in_training("hira_dropout")
        return cls(rank=max(source.sizes("hira_A"), default=0))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        # A layer with another rank is filled up with zeros, which get no gradient.
        a, b = padded(site.take("hira_A"), self.rank, 0), padded(site.take("hira_B"), self.rank, 1)
        return {"a": a, "b": b}


@dataclass(frozen=True)
class FactorOfLowRank(Invariant):
    """The change divided by the weight, entry by entry, has at most the rank `rank`."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, HiRA)
        ratio = torch.where(before == 0, 0, (after - before).double() / before.double())
        values = torch.linalg.svdvals(ratio)
        # Rounding is relative to the factor 1 of every entry.
        return float(values[adapter.rank] / ratio.numel() ** 0.5) if adapter.rank < len(values) else 0.0
