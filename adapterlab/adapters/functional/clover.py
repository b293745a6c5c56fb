"""CLOVER: the two maps that meet in a head are one, and change in its singular basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.adapter_types import Pair, PairAdapter
from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, KeepsRowSpaces, OrthonormalRows
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class CLOVER(PairAdapter):
    """In each head `second @ first = U S V^T`; the first map becomes `S' V^T`, the second `U`, and `S'` is trained.

    `first (heads, width, in)` makes values or keys, `second (heads, out, width)` leads on to the output or from the
    queries (Meng et al. 2024, section 3 and appendix A.1). `core S' (heads, width, width)` starts at the diagonal
    `start S` and is trained as a full matrix; `basis V^T (heads, width, in)` and `outer U (heads, out, width)` are
    fixed. Strength moves along `S + strength * (S' - S)`. Under grouped-query attention the query heads of a
    key-value head share its core, as the paper's share of LLaMA3-8B says (table 2): they are decomposed together, so
    that nothing is approximated.

    Where something that is not linear stands between, a rotation of keys and queries or the activation, there is no
    second: keys, and blocks of `mlp_block` hidden units, are `T V^T` with orthonormal rows in `V^T`, and the
    transition `T` is trained (section 4.2). With `queries` those have a transition of their own under a rotation, which
    the authors' code does and the paper does not. `mlp_block` 0 leaves the feed-forward block alone.
    """

    name = "clover"
    title = "Cross-layer orthogonal vectors"
    theme = Theme.FUNCTIONAL
    claim = "Keys and queries, values and outputs, are one map in each head, and change together."
    paper = "https://arxiv.org/abs/2411.17426"

    mlp_block: int = 64
    queries: bool = False

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), KeepsRowSpaces("core"), OrthonormalRows("directions")

    @property
    def unit_block(self) -> int:
        return self.mlp_block

    @property
    def lone_queries(self) -> bool:
        return self.queries

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.mlp_block and (wrong := [rows for rows, _ in shapes[-1:] if rows % self.mlp_block]):
            return f"mlp_block {self.mlp_block} does not divide {wrong[0]} hidden units: give a divisor, or 0 for none"
        return None

    def init(self, pair: Pair, context: Context) -> State:
        u, s, basis = context.svd(pair.first)
        derived = {"start": u * s[..., None, :], "basis": basis}
        if pair.second is not None:
            columns, scale, rows = context.svd(pair.second)
            # The product of the two is as narrow as a head between its outer bases.
            u, s, vt = context.svd(scale[..., None] * rows @ derived["start"])
            derived = {"start": torch.diag_embed(s), "basis": vt @ basis, "outer": columns @ u}
        return State({"core": derived["start"].clone()}, derived=derived)

    def first(self, state: State, strength: float = 1.0) -> Float[Tensor, "heads width in"]:
        return self._core(state, strength) @ state["basis"]

    def second(self, state: State) -> Float[Tensor, "heads out width"] | None:
        return state.derived.get("outer")

    def directions(self, state: State) -> Float[Tensor, "heads width in"]:
        """`V^T`."""
        return state["basis"]

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], strength: float = 1.0
    ) -> Float[Tensor, "*batch rows"]:
        core = self._core(state, strength)
        seen = affine(x, state["basis"].flatten(0, 1)).unflatten(-1, core.shape[:2])
        return torch.einsum("...hk,hdk->...hd", seen, core).flatten(-2)

    def _core(self, state: State, strength: float) -> Float[Tensor, "heads width width"]:
        return state["start"] + strength * (state["core"] - state["start"])
