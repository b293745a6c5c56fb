"""FRoD: sparse rotations between directions that the layers at the same place in all blocks share.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("frod", millionths=250_000), torch.eye(4)
>>> state = method.init(weight, Context.of_layer(weight))
>>> state["l"].shape, state["s"].shape, torch.equal(method.weight(state, weight), weight)
(torch.Size([4]), torch.Size([4]), True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import Linear, LinearAdapter, in_sixteenths
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite
from adapterlab.adapters.state import State

MILLION = 1_000_000


@dataclass(frozen=True)
class FRoD(LinearAdapter):
    """`W' = W + strength * U (S + diag(l - l_0)) V^T`, where `W = U diag(l_0) V^T`; so `W' = U (S + diag(l)) V^T` at 1.

    `V (in, in)` is one for all layers at the same place in their blocks, from a joint decomposition of their weights;
    `U (out, in)` has columns of length 1. Both are fixed. `l (in,)` starts at `l_0`; `s` are the entries of the sparse `S`,
    at random places off its diagonal that these layers share, and start at zero.

    The joint decomposition (a higher-order generalized SVD) takes `W_i = Q_i R` from a QR decomposition of the stacked
    weights, the eigenvectors `Z` of the mean of `(Q_i^T Q_i + ridge I)^-1`, and `V = R^T Z`. Weights with fewer rows
    together than columns have no such `R`; `V` is then the basis of their right singular vectors.
    """

    name = "frod"
    title = "Full-rank adaptation by rotational degrees"
    theme = Theme.SHARED
    claim = "All layers at the same place share their directions; a task mixes a few pairs of them."
    paper = "https://doi.org/10.1609/aaai.v40i31.39813"
    size_knob = "millionths"

    millionths: int = 10_000
    """Share of the entries of `S` that are trained, in millionths."""
    ridge: float = 0.001
    """Stabilizes the joint decomposition of weights that resemble each other."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), JointlyDecomposed()

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return [size for size in in_sixteenths(1, MILLION) if size < MILLION]

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if not 1 <= self.millionths < MILLION:
            return f"millionths {self.millionths} is not a share of the entries: give 1 to {MILLION - 1}"
        return None if self.ridge > 0 else f"ridge {self.ridge} is not positive: give a small number such as 0.001"

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        columns = weight.shape[1]
        off_diagonal = columns * (columns - 1)
        count = min(max(1, columns**2 * self.millionths // MILLION), off_diagonal)
        place = context.place
        entries = context.share(
            f"{place} entries", lambda: _off_diagonal(context.distinct(count, below=off_diagonal), columns)
        )
        if context.device.type == "meta":
            v, u = context.zeros(columns, columns), context.zeros(*weight.shape)
            start = context.zeros(columns)
        else:
            v = context.share(f"{place} v", lambda: joint_basis(context.alike(), self.ridge).to(context.dtype))
            # U follows from the rounded V, so that the product is the weight as nearly as the state's dtype can hold it.
            scaled = weight.double() @ torch.linalg.pinv(v.double()).T
            lengths = torch.linalg.vector_norm(scaled, dim=0)
            u = torch.where(lengths > 1e-12, scaled / lengths, 0).to(context.dtype)
            start = lengths.to(context.dtype)
        return State(
            {"l": start.clone(), "s": context.zeros(len(entries))},
            {"entries": entries},
            {"u": u, "v": v, "start": start},
        )

    def middle(self, state: State) -> Float[Tensor, "in in"]:
        """Return `S + diag(l - l_0)`.

        Args:
            state: State of the site.
        """
        shift = torch.diag_embed(state["l"] - state["start"])
        return shift.flatten().scatter(0, state["entries"], state["s"]).view(shift.shape)

    def index_bound(self, name: str, shape: tuple[int, int] | None) -> int | None:
        return None if shape is None else shape[1] ** 2

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return weight + strength * (state["u"] @ self.middle(state) @ state["v"].T)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        moved = affine(x @ state["v"], self.middle(state))
        return linear(x) + strength * affine(moved, state["u"])

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        raise CannotExportError("PEFT computes U again from its own decomposition of the base, whose signs may differ")


def joint_basis(weights: Sequence[Float[Tensor, "rows in"]], ridge: float) -> Float[Tensor, "in in"]:
    """Return `V` of a joint decomposition `W_i = U_i diag(l_i) V^T`.

    Args:
        weights: The weights, with the same number of columns.
        ridge: Stabilizes the inverses.
    """
    stacked = torch.cat([weight.to(torch.promote_types(weight.dtype, torch.float32)) for weight in weights])
    columns = stacked.shape[1]
    if len(stacked) < columns:
        directions: Tensor = torch.linalg.svd(stacked, full_matrices=True).Vh
        return directions.T
    q, r = torch.linalg.qr(stacked)
    identity = torch.eye(columns, dtype=q.dtype, device=q.device)
    parts = q.split([len(weight) for weight in weights])
    mean = torch.stack([torch.linalg.inv(part.T @ part + ridge * identity) for part in parts]).mean(0)
    basis: Tensor = r.T @ torch.linalg.eigh(mean).eigenvectors
    return basis


def _off_diagonal(numbers: Tensor, columns: int) -> Tensor:
    """Return positions in a square matrix, row by row, of the given ones of its entries off the diagonal."""
    row, column = numbers // (columns - 1), numbers % (columns - 1)
    return row * columns + column + (column >= row)


@dataclass(frozen=True)
class JointlyDecomposed(Invariant):
    """The base weight is `U diag(l_0) V^T`."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        rebuilt = (state["u"].double() * state["start"].double()) @ state["v"].double().T
        return relative(rebuilt - before.double(), before, after)
