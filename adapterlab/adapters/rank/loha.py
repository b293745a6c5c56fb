"""LoHa: an update that is the entrywise product of two low-rank matrices.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> weight = torch.eye(4)
>>> state = adapter("loha", rank=2).init(weight, Context.of_layer(weight))
>>> {name: tuple(tensor.shape) for name, tensor in state.trainable.items()}
{'a1': (2, 4), 'b1': (4, 2), 'a2': (2, 4), 'b2': (4, 2)}
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
class LoHa(LinearAdapter):
    """`W' = W + strength * alpha / rank * (B1 A1) * (B2 A2)`, where the middle product is entrywise.

    `A1, A2 (rank, in)` and `B1, B2 (out, rank)` (Yeh et al. 2023, equation 3, after Hyeon-Woo et al. 2022, proposition 1).
    As in the code of Yeh et al., `B2` starts at zero and the others as normal numbers, with a standard deviation of 1, but
    0.1 for `B1`. PEFT starts them as in linear layers, where the first steps change the weight hundreds of times less.

    Row `i` of the product is `(B1_i x B2_i) (A1 x A2)`, where `x` multiplies all pairs of entries, or of rows; so the update
    also has an ordinary factorization of rank `rank ** 2`.
    """

    name = "loha"
    title = "Low-rank adaptation with Hadamard product"
    theme = Theme.RANK
    claim = "The change is the entrywise product of two low-rank matrices, which gives a high rank for few parameters."
    paper = "https://arxiv.org/abs/2309.14859"
    size_knob = "rank"
    peft_kinds = ("LOHA",)

    rank: int = 4
    """Rank of each of the two matrices."""
    alpha: float = 2.0
    """Numerator of the factor `alpha / rank`."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("rank", power=2)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        return State(
            {
                "a1": context.normal(self.rank, columns),
                "b1": context.normal(rows, self.rank, std=0.1),
                "a2": context.normal(self.rank, columns),
                "b2": context.zeros(rows, self.rank),
            }
        )

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        product = (state["b1"] @ state["a1"]) * (state["b2"] @ state["a2"])
        return weight + strength * self.alpha / self.rank * product

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        rows, columns = len(state["b1"]), x.shape[-1]
        pairs = self.rank**2
        if not self.on_input(x, linear.weight, each=pairs * (rows + columns), once=2 * self.rank * rows * columns):
            return super().forward(state, x, linear, strength)
        a = (state["a1"][:, None] * state["a2"]).flatten(0, 1)
        b = (state["b1"][:, :, None] * state["b2"][:, None]).flatten(1)
        return linear(x) + affine(affine(x, a) * (strength * self.alpha / self.rank), b)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        config = {"peft_type": "LOHA", "r": self.rank, "alpha": self.alpha}
        names = {"hada_w1_a": "b1", "hada_w1_b": "a1", "hada_w2_a": "b2", "hada_w2_b": "a2"}
        return per_site(config, sites, names)

    @classmethod
    def from_peft(cls, source: PeftSource) -> LoHa | None:
        settings = source.settings
        settings.only_at_start(
            "init_weights", "use_effective_conv2d", "r", "rank_pattern"
        )  # the tensors have the ranks
        settings.only_in_training("rank_dropout", "module_dropout")
        return cls(rank=max(source.sizes("hada_w1_b"), default=0), alpha=settings.number("alpha", 8))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        # A layer with another rank is filled up with zeros, which get no gradient; another scale is multiplied into B1.
        b1, a1, b2, a2 = (site.take(f"hada_{name}") for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
        scale = site.settings.at(site.path, "alpha_pattern", self.alpha) / len(a1) * self.rank / self.alpha
        parts = {"b1": (b1 * scale, 1), "a1": (a1, 0), "b2": (b2, 1), "a2": (a2, 0)}
        return {name: padded(tensor, self.rank, dimension) for name, (tensor, dimension) in parts.items()}
