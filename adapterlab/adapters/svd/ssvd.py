"""SSVD: a shift of singular values and a rotation of the input's singular vectors.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("ssvd", rank=3), torch.diag(torch.arange(1.0, 6.0))
>>> state = method.init(weight, Context.of_layer(weight))
>>> {name: tuple(tensor.shape) for name, tensor in state.trainable.items()}
{'shift': (3,), 'skew': (3,)}
"""

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
"""Values of `rotation`."""


@dataclass(frozen=True)
class SSVD(LinearAdapter):
    """`W' = U (S + strength * dS) G V^T` for the top `rank` singular triplets of `W = U S V^T`.

    `dS`, `shift (rank,)`, starts at zero. `G (rank, rank)` rotates the right singular vectors; the left ones are unchanged
    (Wang et al. 2025, equations 8 and 9). The authors' code rotates the left ones of a layer with more inputs than outputs,
    and multiplies the shift by a trained gate; the paper has neither. `K` is `strength` times the skew-symmetric matrix with
    the upper triangle `skew (rank (rank - 1) / 2,)`, which starts at zero, and `G` follows from `rotation`:

    - `approximate`: `I - 2 K`, the paper's default (equation 13);
    - `strict`: `(I - K)(I + K)^-1` (equation 10);
    - `free`: `I + strength * (turn - I)`, where `turn (rank, rank)` is trained directly and starts at `I` (section III-C).
    """

    name = "ssvd"
    title = "Structured SVD-guided fine-tuning"
    theme = Theme.SVD
    claim = "A new domain rotates the weight's input singular vectors and leaves its output singular vectors unchanged."
    paper = "https://arxiv.org/abs/2509.02830"
    size_knob = "rank"

    rank: int = 32
    """Number of singular triplets; the paper sets it as a share of the layer's smaller side, 17 to 80 %."""
    rotation: str = "approximate"
    """One of `approximate`, `strict` and `free`."""

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
        """Return `(S + strength * dS) G - S`, the matrix between `U` and `V^T` in the update.

        Args:
            state: State of the site.
            strength: As in `weight`.
        """
        s = state["s"]
        shifted: Tensor = s + strength * state["shift"]
        return shifted[:, None] * self.turn(state, strength) - torch.diag(s)

    def turn(self, state: State, strength: float) -> Float[Tensor, "rank rank"]:
        """Return `G`.

        Args:
            state: State of the site.
            strength: As in `weight`.
        """
        eye = torch.eye(self.rank, dtype=state["s"].dtype, device=state["s"].device)
        if self.rotation == "free":
            turn: Tensor = eye + strength * (state["turn"] - eye)
            return turn
        k = skew_symmetric(strength * state["skew"], self.rank)
        return cayley(-k) if self.rotation == "strict" else eye - 2 * k
