"""SSVD: a new domain turns and stretches what a layer listens to, and leaves what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, InSingularBasis, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.rotations import cayley, skew_symmetric
from adapterlab.adapters.state import State

ROTATIONS = ("approximate", "strict", "free")


@dataclass(frozen=True)
class SSVD(LinearAdapter):
    """`W' = U (S + strength * dS) G V^T`, adapting the top `rank` singular triplets of `W = U S V^T`.

    `dS`, `shift (rank,)`, starts at zero; `G (rank, rank)` turns the right singular vectors and leaves the left (Wang et
    al. 2025, equations 8 and 9). With `K = strength * skew`, `skew (rank (rank - 1) / 2,)` started at zero, `G` is by
    `rotation`

    - `approximate`: `I - 2 K`, the paper's default (equation 13);
    - `strict`: `(I - K)(I + K)^-1` (equation 10);
    - `free`: `I + strength * (turn - I)`, with `turn (rank, rank)` trained as it is, started at `I` (section III-C).

    The paper sets `rank` as a share of the layer's smaller side.
    """

    name = "ssvd"
    title = "Structured SVD-guided fine-tuning"
    theme = Theme.SVD
    claim = "A shift of domain turns the input's singular basis and leaves the output's."
    paper = "https://arxiv.org/abs/2509.02830"
    size_knob = "rank"

    rank: int = 32
    rotation: str = "approximate"

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), InSingularBasis("u", "vt"), RankAtMost("rank")

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.rotation not in ROTATIONS:
            return f"rotation {self.rotation!r} does not exist: give one of {', '.join(ROTATIONS)}"
        return super().validate(shapes)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        u, s, vt = context.svd(weight, self.rank)
        if self.rotation == "free":
            turn = {"turn": torch.eye(self.rank, dtype=context.dtype, device=context.device)}
        else:
            turn = {"skew": context.zeros(self.rank * (self.rank - 1) // 2)}
        return State({"shift": context.zeros(self.rank), **turn}, derived={"u": u, "s": s, "vt": vt})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + state["u"] @ self.core(state, strength) @ state["vt"]

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        return linear(x) + affine(affine(affine(x, state["vt"]), self.core(state, strength)), state["u"])

    def core(self, state: State, strength: float) -> Float[Tensor, "rank rank"]:
        """What is added between `U` and `V^T`: `(S + dS) G - S`."""
        s = state["s"]
        return (s + strength * state["shift"])[:, None] * self.turn(state, strength) - torch.diag(s)

    def turn(self, state: State, strength: float) -> Float[Tensor, "rank rank"]:
        """`G`."""
        eye = torch.eye(self.rank, dtype=state["s"].dtype, device=state["s"].device)
        if self.rotation == "free":
            return eye + strength * (state["turn"] - eye)
        k = skew_symmetric(strength * state["skew"], self.rank)
        return cayley(-k) if self.rotation == "strict" else eye - 2 * k
