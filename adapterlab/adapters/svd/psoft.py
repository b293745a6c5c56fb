"""PSOFT: the rotation that a task needs lies in the weight's principal subspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, InSingularBasis, Invariant, PreservesGram, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.rotations import cayley, cayley_neumann, skew_symmetric
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class PSOFT(LinearAdapter):
    """`W' = W + U S (diag(beta) R diag(alpha) - I) V^T`, of the top `rank` singular triplets of `W`.

    `R = (I + Q)(I - Q)^-1`, `Q` being `strength` times the skew-symmetric matrix in `skew (rank (rank - 1) / 2,)`, which
    starts at zero. The relaxing vectors `alpha (rank,)` and `beta (rank,)` start at one and enter as `1 + strength (alpha
    - 1)` (Wu et al. 2025, equation 8; its matrices are the transposes of these). Without `relaxed`, lengths of neurons
    and angles between them are the base's. `neumann_terms` above 0 cuts the series of the inverse after so many terms.
    """

    name = "psoft"
    title = "Orthogonal fine-tuning with principal subspace adaptation"
    theme = Theme.SVD
    claim = "The rotation that a task needs lies in the weight's principal subspace."
    paper = "https://arxiv.org/abs/2505.11235"
    size_knob = "rank"

    rank: int = 32
    relaxed: bool = True
    neumann_terms: int = 0

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        held: tuple[Invariant, ...] = (IdentityAtInit(), InSingularBasis("u", "vt"), RankAtMost("rank"))
        return held if self.relaxed or self.neumann_terms else (*held, PreservesGram("rows"))

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.neumann_terms < 0:
            return f"neumann_terms {self.neumann_terms} is below 0: give 0 for the exact inverse, or how many terms"
        return super().validate(shapes)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        u, s, vt = context.svd(weight, self.rank)
        trainable = {"skew": context.zeros(self.rank * (self.rank - 1) // 2)}
        if self.relaxed:
            trainable |= {name: context.full(self.rank, value=1.0) for name in ("alpha", "beta")}
        return State(trainable, derived={"u": u, "s": s, "vt": vt})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + state["u"] @ self.core(state, strength) @ state["vt"]

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        return linear(x) + affine(affine(affine(x, state["vt"]), self.core(state, strength)), state["u"])

    def core(self, state: State, strength: float) -> Float[Tensor, "rank rank"]:
        """What is added between `U` and `V^T`."""
        q = skew_symmetric(strength * state["skew"], self.rank)
        r = cayley_neumann(q, self.neumann_terms) if self.neumann_terms else cayley(q)
        if self.relaxed:
            alpha, beta = (1 + strength * (state[name] - 1) for name in ("alpha", "beta"))
            r = beta[:, None] * r * alpha
        s = state["s"]
        return s[:, None] * r - torch.diag(s)
