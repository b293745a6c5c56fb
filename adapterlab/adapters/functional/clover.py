"""CLOVER: a trained matrix between the singular bases of two maps that form one map in each head.

>>> from adapterlab.adapters import Context, adapter
>>> method, pair = adapter("clover"), Pair(torch.randn(2, 4, 8), torch.randn(2, 8, 4))  # two heads
>>> state = method.init(pair, Context.of_layer(torch.empty(8, 8)))
>>> torch.allclose(method.second(state) @ method.first(state), pair.second @ pair.first, atol=1e-4)
True
"""

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

    `first (heads, width, in)` computes values or keys; `second (heads, out, width)` is the output projection or the
    transposed query projection (Meng et al. 2024, section 3 and appendix A.1). `core S' (heads, width, width)` starts at
    the diagonal `start S` and is trained as a full matrix; `basis V^T (heads, width, in)` and `outer U (heads, out,
    width)` are fixed. Strength interpolates `S + strength * (S' - S)`. In grouped-query attention the query heads of a
    key-value head share its core, which agrees with the paper's parameter count for LLaMA3-8B (table 2). They are
    decomposed together, so nothing is approximated; the authors' code then decomposes the values alone.

    If something nonlinear lies between the two maps (a rotary position embedding between keys and queries, or the
    activation of the feed-forward block), there is no second map: keys, and blocks of `mlp_block` hidden units, are `T
    V^T`, where `V^T` has orthonormal rows and the transition `T` is trained (section 4.2).
    """

    name = "clover"
    title = "Cross-layer orthogonal vectors"
    theme = Theme.FUNCTIONAL
    claim = "In each head, keys and queries form a single map, and so do values and outputs; each changes as a whole."
    paper = "https://arxiv.org/abs/2411.17426"

    mlp_block: int = 64
    """Hidden units of the feed-forward block in one block; 0 leaves the feed-forward block unchanged."""
    queries: bool = False
    """True to train a transition for queries too, where a rotary embedding separates them from keys. The first version of
    the authors' code does this, and the last has it for queries alone; the paper has it for keys alone."""

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
            # Between the outer bases, the product of the two maps is a matrix as small as a head.
            u, s, vt = context.svd(scale[..., None] * rows @ derived["start"])
            derived = {"start": torch.diag_embed(s), "basis": vt @ basis, "outer": columns @ u}
        return State({"core": derived["start"].clone()}, derived=derived)

    def first(self, state: State, strength: float = 1.0) -> Float[Tensor, "heads width in"]:
        return self._core(state, strength) @ state["basis"]

    def second(self, state: State) -> Float[Tensor, "heads out width"] | None:
        return state.derived.get("outer")

    def directions(self, state: State) -> Float[Tensor, "heads width in"]:
        """Return `V^T`.

        Args:
            state: State of the site.
        """
        return state["basis"]

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], strength: float = 1.0
    ) -> Float[Tensor, "*batch rows"]:
        core = self._core(state, strength)
        along = torch.unflatten(affine(x, state["basis"].flatten(0, 1)), -1, core.shape[:2])
        return torch.einsum("...hk,hdk->...hd", along, core).flatten(-2)

    def _core(self, state: State, strength: float) -> Float[Tensor, "heads width width"]:
        return state["start"] + strength * (state["core"] - state["start"])
