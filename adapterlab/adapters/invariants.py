"""What a method can be held to: properties of the adapted weight that a number decides.

Each invariant measures by how much it is broken (`residual`, relative, 0 when it holds exactly) and says how much of that
rounding explains (`bound`). One test module checks them for every method, on random weights and after training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Adapter, Property
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class Invariant(Property, ABC):
    """A property of `after`, the adapted weight or parameter, beside `before`, the base's."""

    @abstractmethod
    def residual(
        self,
        adapter: LinearAdapter,
        state: State,
        before: Float[Tensor, "out in"],
        after: Float[Tensor, "out in"],
    ) -> float:
        """How far the property is from holding, relative to the weight's own size."""


@dataclass(frozen=True)
class IdentityAtInit(Invariant):
    """The adapted weight is the base's before training."""

    @property
    def only_at_start(self) -> bool:
        return True

    @property
    def starts_as_base(self) -> bool:
        return True

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        return relative_size(after - before, before)


@dataclass(frozen=True)
class RankAtMost(Invariant):
    """The change of the weight has rank at most the field's value to the `power`, times `factor`."""

    field: str
    factor: int = 1
    power: int = 1

    def rank(self, adapter: Adapter) -> int:
        """The bound."""
        return int(getattr(adapter, self.field)) ** self.power * self.factor

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        rank = self.rank(adapter)
        s = torch.linalg.svdvals((after - before).double())
        if rank >= len(s) or s[0] == 0:
            return 0.0
        # Rounding of the sum is relative to the weight, not to the change.
        return float(s[rank] / torch.linalg.matrix_norm(before.double(), 2))

    def __str__(self) -> str:
        power, factor = f"^{self.power}" * (self.power > 1), f" x {self.factor}" * (self.factor > 1)
        return f"The change has rank at most {self.field}{power}{factor}"


@dataclass(frozen=True)
class PreservesGram(Invariant):
    """Lengths of the weight's rows (or columns) and the angles between them are those of the base."""

    of: Literal["rows", "columns"] = "rows"

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        a, b = (w.double() if self.of == "rows" else w.double().T for w in (after, before))
        return relative_size(a @ a.T - b @ b.T, b @ b.T)

    def __str__(self) -> str:
        return f"Lengths of the {self.of} and the angles between them are the base's"


class NearlyOrthogonal(Protocol):
    """An adapter that multiplies the weight by what falls short of a rotation by a known amount."""

    def orthogonality_error(self, state: State, width: int) -> Tensor:
        """A bound on the spectral norm of `R^T R - I`, `R` being `width` wide."""
        ...


@dataclass(frozen=True)
class NearlyPreservesGram(Invariant):
    """As `PreservesGram`, up to the error that the adapter states for its own rotation at this state."""

    of: Literal["rows", "columns"] = "rows"

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        a, b = (w.double() if self.of == "rows" else w.double().T for w in (after, before))
        stated = cast(NearlyOrthogonal, adapter).orthogonality_error(state, b.shape[1]).double()
        allowed = stated * torch.linalg.vector_norm(b) * torch.linalg.matrix_norm(b, 2)
        excess = (torch.linalg.vector_norm(a @ a.T - b @ b.T) - allowed).clamp_min(0)
        return float((excess / torch.linalg.vector_norm(b @ b.T)).detach())

    def __str__(self) -> str:
        return f"Lengths of the {self.of} and the angles between them are the base's, up to the stated error"


@dataclass(frozen=True)
class NegativeStrengthInverts(Invariant):
    """Strength -1 undoes strength +1."""

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        return relative_size(adapter.weight(state, after, -1.0) - before, before)


@dataclass(frozen=True)
class InSingularBasis(Invariant):
    """The change couples only the base's own singular vectors, and only those that the method's pattern names.

    `left (out, k)` and `right (k, in)` are the tensors that hold the vectors; an adapter with a pattern has a method
    `support(state)`, true at the `(left, right)` that it may couple.
    """

    left: str
    right: str

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        base, change = before.double(), (after - before).double()
        u, vt = state[self.left].double(), state[self.right].double()
        foreign = base @ vt.T - u * torch.einsum("oi,ok,ki->k", base, u, vt)
        coupling = u.T @ change @ vt.T
        if (support := getattr(adapter, "support", None)) is not None:
            coupling = coupling * support(state)
        return relative_size(change - u @ coupling @ vt, base) + relative_size(foreign, base)


@dataclass(frozen=True)
class SelfInverse(Invariant):
    """Adapting the adapted weight again gives the base back."""

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        return relative_size(adapter.weight(state, after) - before, before)


@dataclass(frozen=True)
class DistanceAtMost(Invariant):
    """The change is at most `factor` times as large as the base, in Frobenius norm."""

    factor: float

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        return max(0.0, relative_size(after - before, before) - self.factor)

    def __str__(self) -> str:
        return f"The change is at most {self.factor:g} times as large as the base"


@dataclass(frozen=True)
class KeepsPlanes(Invariant):
    """Each pair of rows, first with second half of a group, spans the plane that it spans in the base."""

    group_size: str

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        half = getattr(adapter, self.group_size) // 2
        a, b = (w.double().unflatten(0, (-1, 2, half)).transpose(1, 2).flatten(0, 1) for w in (after, before))
        basis = torch.linalg.qr(b.mT)[0]
        return relative_size(a.mT - basis @ (basis.mT @ a.mT), b)


@dataclass(frozen=True)
class RowNormsAre(Invariant):
    """The lengths of the weight's rows are the tensor that the method trains for them."""

    tensor: str

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        lengths = state[self.tensor].double().abs()
        return relative_size(after.double().norm(dim=1) - lengths, lengths)

    def __str__(self) -> str:
        return f"The lengths of the rows are `{self.tensor}`"


@dataclass(frozen=True)
class ScalesLines(Invariant):
    """Every row, or else every column, is a multiple of the base's: no new direction."""

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        def off(a: Tensor, b: Tensor) -> float:
            along = (a * b).sum(1, keepdim=True) / (b * b).sum(1, keepdim=True).clamp_min(1e-300)
            return relative_size(a - along * b, b)

        a, b = after.double(), before.double()
        return min(off(a, b), off(a.T, b.T))


@dataclass(frozen=True)
class KeepsRowSpaces(Invariant):
    """The rows of each head stay combinations of its own rows in the base.

    `heads` is a tensor of the state that has one entry a head.
    """

    heads: str

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        base, rows = (t.double().unflatten(0, (len(state[self.heads]), -1)) for t in (before, after))
        basis = torch.linalg.qr(base.mT).Q
        return relative_size(rows - rows @ basis @ basis.mT, rows)


@dataclass(frozen=True)
class OtherRowsUntouched(Invariant):
    """Every row that the state does not name is the base's, bit for bit."""

    rows: str

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        others = torch.ones(len(before), dtype=torch.bool, device=before.device).index_fill(0, state[self.rows], False)
        return float((before[others] != after[others]).sum())

    def bound(self, dtype: torch.dtype) -> float:
        return 0.0


@dataclass(frozen=True)
class OrthonormalRows(Invariant):
    """The rows of a matrix that the method makes of its state are orthonormal."""

    of: str

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        rows = getattr(adapter, self.of)(state).double()
        eye = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
        return relative_size(rows @ rows.mT - eye, eye)

    def __str__(self) -> str:
        return f"The rows of `{self.of}` are orthonormal"


def relative(difference: Tensor, before: Tensor, after: Tensor) -> float:
    """The size of `difference` beside the larger of the two weights, since rounding is relative to that."""
    size, *references = (float(torch.linalg.vector_norm(t.detach().double())) for t in (difference, before, after))
    return size / max(references)


def relative_size(difference: Tensor, reference: Tensor) -> float:
    """The Frobenius norm of `difference` beside that of `reference`; 0 where there is no difference."""
    size, reference_size = (torch.linalg.vector_norm(t.detach().double()) for t in (difference, reference))
    return float(size / reference_size) if size else 0.0
