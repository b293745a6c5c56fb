"""DoRA: a low-rank update of the direction of each row, and a trained length.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> weight = 3 * torch.eye(4)
>>> adapter("dora", rank=2).init(weight, Context.of_layer(weight))["magnitude"]
tensor([3., 3., 3., 3.])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, finfo
from torch.linalg import vector_norm
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RowNormsAre
from adapterlab.adapters.linear import Linear, LinearAdapter, is_bare
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored, padded
from adapterlab.adapters.rank.lora import STARTS_ON_THE_BASE, peft_scale
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class DoRA(LinearAdapter):
    """`W' = m * V / |V|`, `V = W + strength * scale * B A`, where `|V|` are the norms of the rows.

    `magnitude m (out,)` starts at the row norms `m0` of `W`, and strength interpolates it as `m0 + strength * (m - m0)`;
    `A (rank, in)` and `B (out, rank)` are LoRA's (Liu et al. 2024, equation 5). The gradient treats `|V|` as a constant
    (section 4.3). On a weight whose row norms `n` are not `m0` any more, since another adapter below it trains, was
    merged or was switched on, the length of a row is `n + strength * (m - m0)`.
    """

    name = "dora"
    title = "Weight-decomposed low-rank adaptation"
    theme = Theme.DECOUPLED
    claim = "The length and the direction of a neuron's weights change separately."
    paper = "https://arxiv.org/abs/2402.09353"
    size_knob = "rank"
    peft_kinds = ("LORA",)
    peft_transposable = True

    rank: int = 8
    """Rank of the update."""
    alpha: float = 16.0
    """Numerator of `scale = alpha / rank`."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RowNormsAre("magnitude")

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        norm = weight.to(context.dtype).square().sum(1).sqrt()
        return State(
            {
                "magnitude": norm.clone(),
                "a": context.uniform(self.rank, columns, bound=columns**-0.5),
                "b": context.zeros(rows, self.rank),
            },
            {"norm": norm},
        )

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        scale = strength * self.alpha / self.rank
        gain = self.gain(state, weight, vector_norm(weight, dim=1), strength)
        return gain[:, None] * (weight + scale * (state["b"] @ state["a"]))

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        scale = strength * self.alpha / self.rank
        moved = affine(x, linear.weight) + affine(affine(x, state["a"]) * scale, state["b"])
        norm = state["norm"] if is_bare(linear) else vector_norm(linear.weight, dim=1)
        y = self.gain(state, linear.weight, norm, strength) * moved
        return y if linear.bias is None else y + linear.bias

    def gain(
        self, state: State, weight: Float[Tensor, "out in"], norm: Float[Tensor, " out"], strength: float
    ) -> Float[Tensor, " out"]:
        """Return `m / |V|` for every row.

        The norms come from products of rank-sized matrices: `|w + B_i A|^2 = |w|^2 + 2 B_i A w + B_i A A^T B_i`.

        Args:
            state: State of the site.
            weight: Base weight.
            norm: Row norms of `weight`.
            strength: As in `weight`.
        """
        a, b = state["a"].detach(), state["b"].detach() * (strength * self.alpha / self.rank)
        square = norm.square() + ((2 * affine(weight, a) + b @ (a @ a.T)) * b).sum(1)
        length = norm + strength * (state["magnitude"] - state["norm"])
        return length / square.clamp_min(finfo(norm.dtype).tiny).sqrt()  # of a row of zeros: 0

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        config = {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "use_dora": True,
            "lora_dropout": 0.0,
        }
        names = {"lora_A.weight": "a", "lora_B.weight": "b", "lora_magnitude_vector": "magnitude"}
        return per_site(config, sites, names)

    @classmethod
    def from_peft(cls, source: PeftSource) -> DoRA | None:
        settings = source.settings
        if not settings.flag("use_dora") or settings.get("init_lora_weights", True) not in STARTS_ON_THE_BASE:
            return None
        settings.only_at_start("eva_config", "megatron_core", "qalora_group_size")
        settings.only_in_training("lora_dropout")
        rank = max(source.sizes("lora_A.weight"), default=0)
        return cls(rank=rank, alpha=peft_scale(source, "", rank) * rank)

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        a, b = site.take("lora_A.weight"), site.take("lora_B.weight")
        scale = peft_scale(site.source, site.path, len(a)) * self.rank / self.alpha
        magnitude = site.take("lora_magnitude_vector")
        return {"a": padded(a, self.rank, 0), "b": padded(b * scale, self.rank, 1), "magnitude": magnitude}
