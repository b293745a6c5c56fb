"""Properties of adapted weights that can be measured, and that the tests check for every method that declares them.

Each invariant returns by how much it is violated (`residual`: relative, 0 if it holds exactly), and the largest violation
that rounding can explain (`bound`). They are checked on random weights and after training on text.

>>> import torch
>>> from adapterlab.adapters import State, adapter
>>> before, after = torch.eye(3), torch.diag(torch.tensor([2.0, 2.0, 1.0]))
>>> PreservesGram().residual(adapter("oft"), State({}), before, after) > 1
True
>>> RankAtMost("rank").residual(adapter("lora", rank=2), State({}), before, after)
0.0
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Adapter, Property
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class Invariant(Property, ABC):
    """A property of the adapted weight or parameter, compared with the base's."""

    @abstractmethod
    def residual(
        self,
        adapter: Adapter,
        state: State,
        before: Float[Tensor, "out in"],
        after: Float[Tensor, "out in"],
    ) -> float:
        """Return by how much the property is violated, relative to the size of the weight; 0 if it holds exactly.

        Args:
            adapter: The method.
            state: Its state at this site.
            before: Base weight.
            after: Adapted weight at strength 1.
        """


@dataclass(frozen=True)
class IdentityAtInit(Invariant):
    """The adapted weight equals the base weight before training."""

    @property
    def only_at_start(self) -> bool:
        return True

    @property
    def starts_as_base(self) -> bool:
        return True

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        return relative_size(after - before, before)


@dataclass(frozen=True)
class RankAtMost(Invariant):
    """The change has a bounded rank: the value of a hyperparameter to the `power`, times `factor`."""

    field: str
    """Name of the hyperparameter."""
    factor: int = 1
    """Factor on the bound."""
    power: int = 1
    """Power of the hyperparameter's value."""

    def rank(self, adapter: Adapter) -> int:
        """Return the largest rank of the change.

        Args:
            adapter: The method.
        """
        rank: int = int(getattr(adapter, self.field)) ** self.power * self.factor
        return rank

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
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
    """The weight's rows (or columns) have the same lengths, and the same angles between them, as in the base."""

    of: Literal["rows", "columns"] = "rows"
    """Vectors that are compared."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        a, b = (w.double() if self.of == "rows" else w.double().T for w in (after, before))
        return relative_size(a @ a.T - b @ b.T, b @ b.T)

    def __str__(self) -> str:
        return f"The {self.of} have the same lengths, and the same angles between them, as in the base"


@runtime_checkable
class NearlyOrthogonal(Protocol):
    """A method that multiplies the weight by a matrix `R` that is a rotation up to a known error."""

    def orthogonality_error(self, state: State, width: int) -> Tensor:
        """Return an upper bound on the spectral norm of `R^T R - I`, as a scalar.

        Args:
            state: State of the site.
            width: Number of columns of `R`.
        """
        ...


@dataclass(frozen=True)
class NearlyPreservesGram(Invariant):
    """`PreservesGram` up to the error that the method states for its rotation in this state."""

    of: Literal["rows", "columns"] = "rows"
    """Vectors that are compared."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, NearlyOrthogonal)
        a, b = (w.double() if self.of == "rows" else w.double().T for w in (after, before))
        stated = adapter.orthogonality_error(state, b.shape[1]).double()
        allowed = stated * torch.linalg.vector_norm(b) * torch.linalg.matrix_norm(b, 2)
        excess = (torch.linalg.vector_norm(a @ a.T - b @ b.T) - allowed).clamp_min(0)
        return float((excess / torch.linalg.vector_norm(b @ b.T)).detach())

    def __str__(self) -> str:
        return f"{PreservesGram(self.of)}, up to the stated error"


@dataclass(frozen=True)
class NegativeStrengthInverts(Invariant):
    """Strength -1 undoes strength 1."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, LinearAdapter)
        return relative_size(adapter.weight(state, after, -1.0) - before, before)


@dataclass(frozen=True)
class InSingularBasis(Invariant):
    """The change only combines the base's own singular vectors, in the pairs that the method chooses.

    A method that chooses pairs has a function `support(state)`, which returns a boolean matrix over pairs of left and right
    singular vectors; without it, all pairs are allowed.
    """

    left: str
    """Name of the tensor of left singular vectors, `(out, k)`."""
    right: str
    """Name of the tensor of right singular vectors, `(k, in)`."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        base, change = before.double(), (after - before).double()
        u, vt = state[self.left].double(), state[self.right].double()
        foreign = base @ vt.T - u * torch.einsum("oi,ok,ki->k", base, u, vt)
        coupling = u.T @ change @ vt.T
        if (support := getattr(adapter, "support", None)) is not None:
            coupling = coupling * support(state)
        return relative_size(change - u @ coupling @ vt, base) + relative_size(foreign, base)


@dataclass(frozen=True)
class SelfInverse(Invariant):
    """Applying the adapter to the adapted weight gives the base weight."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, LinearAdapter)
        return relative_size(adapter.weight(state, after) - before, before)


@dataclass(frozen=True)
class DistanceAtMost(Invariant):
    """The Frobenius norm of the change is at most `factor` times that of the base."""

    factor: float
    """Largest ratio of the two norms."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        return max(0.0, relative_size(after - before, before) - self.factor)

    def __str__(self) -> str:
        return f"The norm of the change is at most {self.factor:g} times that of the base"


@dataclass(frozen=True)
class KeepsPlanes(Invariant):
    """Each pair of rows (one from each half of a group of rows) spans the same plane as in the base."""

    group_size: str
    """Name of the hyperparameter that is the size of a group."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        half = getattr(adapter, self.group_size) // 2
        a, b = (torch.unflatten(w.double(), 0, (-1, 2, half)).transpose(1, 2).flatten(0, 1) for w in (after, before))
        basis = torch.linalg.qr(b.mT)[0]
        return relative_size(a.mT - basis @ (basis.mT @ a.mT), b)


@dataclass(frozen=True)
class RowNormsAre(Invariant):
    """The lengths of the weight's rows are a trained tensor of the state."""

    tensor: str
    """Name of the tensor, `(out,)`."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        lengths = state[self.tensor].double().abs()
        return relative_size(after.double().norm(dim=1) - lengths, lengths)

    def __str__(self) -> str:
        return f"The lengths of the rows are the trained vector `{self.tensor}`"


@dataclass(frozen=True)
class ScalesLines(Invariant):
    """Every row, or every column, is a multiple of the base's: there are no new directions."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        def off(a: Tensor, b: Tensor) -> float:
            along = (a * b).sum(1, keepdim=True) / (b * b).sum(1, keepdim=True).clamp_min(1e-300)
            return relative_size(a - along * b, b)

        a, b = after.double(), before.double()
        return min(off(a, b), off(a.T, b.T))


@dataclass(frozen=True)
class KeepsRowSpaces(Invariant):
    """The rows of each head are linear combinations of the same head's rows in the base."""

    heads: str
    """Name of a tensor of the state that has one entry for each head."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        heads = len(state[self.heads])
        base, rows = (torch.unflatten(t.double(), 0, (heads, -1)) for t in (before, after))
        basis = torch.linalg.qr(base.mT).Q
        return relative_size(rows - rows @ basis @ basis.mT, rows)


@dataclass(frozen=True)
class OtherRowsUntouched(Invariant):
    """Every row that is not selected equals the base's, bit for bit."""

    rows: str
    """Name of the tensor with the numbers of the selected rows."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        others = torch.ones(len(before), dtype=torch.bool, device=before.device).index_fill(0, state[self.rows], False)
        return float((before[others] != after[others]).sum())

    def bound(self, dtype: torch.dtype) -> float:
        return 0.0


@dataclass(frozen=True)
class OrthonormalRows(Invariant):
    """The rows of a matrix that the method computes from its state are orthonormal."""

    of: str
    """Name of the method's function that computes the matrix."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        rows = getattr(adapter, self.of)(state).double()
        eye = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
        return relative_size(rows @ rows.mT - eye, eye)

    def __str__(self) -> str:
        return f"The rows of `{self.of}` are orthonormal"


def relative(difference: Tensor, before: Tensor, after: Tensor) -> float:
    """Return the norm of `difference` divided by the larger norm of the two weights, to which rounding is relative.

    Args:
        difference: Violation of a property.
        before: Base weight.
        after: Adapted weight.
    """
    size, *references = (float(torch.linalg.vector_norm(t.detach().double())) for t in (difference, before, after))
    return size / max(references)


def relative_size(difference: Tensor, reference: Tensor) -> float:
    """Return the Frobenius norm of `difference` divided by that of `reference`; 0 if there is no difference.

    Args:
        difference: Violation of a property.
        reference: Tensor to compare it with.
    """
    size, reference_size = (torch.linalg.vector_norm(t.detach().double()) for t in (difference, reference))
    return float(size / reference_size) if size else 0.0
