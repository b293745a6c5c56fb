"""SVFT: a sparse trained matrix between all singular vectors of the weight.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("svft", pattern="banded", off_diagonals=1), torch.eye(3)
>>> method.support(method.init(weight, Context.of_layer(weight))).int()
tensor([[1, 1, 0],
        [1, 1, 1],
        [0, 1, 1]], dtype=torch.int32)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear as affine
from torch.nn.functional import pad

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, InSingularBasis, Invariant
from adapterlab.adapters.linear import Linear, LinearAdapter, is_bare
from adapterlab.adapters.rebuild import recomputed
from adapterlab.adapters.state import State

PATTERNS = ("plain", "banded", "random", "top_k")
"""Values of `pattern`."""
WIDEST_SHIFTED = 8
"""Most diagonals on either side that are applied one after another; a wider band is applied as a matrix."""
GATHERED = 16
"""Cost of an entry of a sparse matrix relative to one of a dense matrix, whose numbers need not be gathered."""


@dataclass(frozen=True)
class SVFT(LinearAdapter):
    """`W' = U (S + strength * M) V^T`, where `U S V^T` is the singular value decomposition of `W` and `M` is sparse.

    Only the entries of `M` at fixed places are trained: `m (entries,)`, which starts at zero (Lingam et al. 2024, equation
    1). With `n` the smaller side of `W`, `pattern` determines the places in the `(n, n)` matrix `M` (section 3.1):

    - `plain`: the diagonal, which keeps the singular vectors;
    - `banded`: also `off_diagonals` on either side of it, diagonal by diagonal from the lowest;
    - `random`: as many entries as the band has, at random places;
    - `top_k`: as many entries, where left and right vectors are most aligned (largest `|u_i^T v_j|`); square layers only.

    `U (out, n)` and `V^T (n, in)` are as large as `W` itself, so they are not saved but recomputed from the base.
    """

    name = "svft"
    title = "Singular vectors guided fine-tuning"
    theme = Theme.SVD
    claim = "Useful change combines a few pairs of the weight's own singular vectors."
    paper = "https://arxiv.org/abs/2405.19597"
    size_knob = "off_diagonals"

    pattern: str = "banded"
    """One of `plain`, `banded`, `random` and `top_k`."""
    off_diagonals: int = 2
    """Number of diagonals on either side of the main one, which sets the number of trained entries."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), InSingularBasis("u", "vt")

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return [0] if self.pattern == "plain" else range(min(min(shape) for shape in shapes))

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        most = min(min(shape) for shape in shapes) - 1
        if self.pattern not in PATTERNS:
            return f"pattern {self.pattern!r} does not exist: give one of {', '.join(PATTERNS)}"
        if self.pattern == "top_k" and any(rows != columns for rows, columns in shapes):
            return "pattern 'top_k' compares left with right singular vectors: give square layers, or another pattern"
        if not 0 <= self.off_diagonals <= most:
            return f"off_diagonals {self.off_diagonals} does not fit the smallest layer: give 0 to {most}"
        return None

    def index_bound(self, name: str, shape: tuple[int, int] | None) -> int | None:
        return None if shape is None else min(shape) ** 2

    @property
    def band(self) -> int:
        """Number of diagonals on either side in a band with as many entries as are trained."""
        return 0 if self.pattern == "plain" else self.off_diagonals

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        u, s, vt = context.svd(weight)
        n, d = len(s), self.band
        entries = n * (2 * d + 1) - d * (d + 1)
        frozen = {}
        if self.pattern == "random":
            frozen["places"] = context.distinct(entries, n * n)
        elif self.pattern == "top_k":
            frozen["places"] = (u.T @ vt.T).abs().flatten().topk(entries).indices.sort().values
        return State({"m": context.zeros(entries)}, frozen, {"u": u, "s": s, "vt": vt})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + strength * (state["u"] @ self.mix(state["vt"].T, state).T)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        along = affine(x, state["vt"])
        mixed = strength * self.mix(along, state)
        exact = x.dtype == state["s"].dtype and not torch.is_autocast_enabled(x.device.type)
        if exact and is_bare(linear):
            # U (S + M) V^T is the whole weight. In bfloat16 U S V^T would round the base itself, so it is not used there.
            return affine(along * state["s"] + mixed, state["u"], linear.bias)
        return linear(x) + affine(mixed, state["u"])

    def mix(self, h: Float[Tensor, "*batch n"], state: State) -> Float[Tensor, "*batch n"]:
        """Return `M h`.

        Args:
            h: Coordinates along the singular vectors.
            state: State of the site.
        """
        n, d = h.shape[-1], self.band
        if self.pattern in ("plain", "banded") and d <= WIDEST_SHIFTED:
            diagonals = torch.split(state["m"], [n - abs(offset) for offset in range(-d, d + 1)])
            near, total = pad(h, (d, d)), torch.zeros_like(h)
            for at, diagonal in enumerate(diagonals):
                offset = at - d
                total = total + pad(diagonal, (max(0, -offset), max(0, offset))) * near[..., at : at + n]
            return total
        if GATHERED * len(state["m"]) < n * n:
            places = self.places(state)
            return recomputed(_coupled, h, state["m"], places // n, places % n)
        m = state["m"].new_zeros(n * n).index_copy(0, self.places(state), state["m"])
        return affine(h, torch.unflatten(m, 0, (n, n)))

    def places(self, state: State) -> Int[Tensor, " entries"]:
        """Return the places of the trained entries in `M`, counted row by row, in the order of `m`.

        Args:
            state: State of the site.
        """
        if self.pattern in ("random", "top_k"):
            return state["places"]
        n, d = len(state["s"]), self.band
        row = torch.arange(n, device=state["s"].device)
        return torch.cat([(row * n + row + o)[max(0, -o) : n - max(0, o)] for o in range(-d, d + 1)])

    def support(self, state: State) -> Bool[Tensor, "n n"]:
        """Return a mask of the trained entries of `M`.

        Args:
            state: State of the site.
        """
        n = len(state["s"])
        none = torch.zeros(n * n, dtype=torch.bool, device=state["s"].device)
        return torch.unflatten(none.index_fill(0, self.places(state), True), 0, (n, n))


def _coupled(
    h: Float[Tensor, "*batch n"],
    m: Float[Tensor, " entries"],
    row: Int[Tensor, " entries"],
    column: Int[Tensor, " entries"],
) -> Float[Tensor, "*batch n"]:
    """Return `M h`, where `M` is zero except for `m` at these rows and columns."""
    transposed = h.flatten(0, -2).mT.contiguous()  # so that whole rows are gathered
    products = transposed.index_select(0, column) * m.to(h.dtype)[:, None]
    return torch.zeros_like(transposed).index_add(0, row, products).mT.reshape(h.shape)
