"""LoKr: an update that is a Kronecker product of a small and a large matrix.

>>> from adapterlab.adapters import adapter
>>> adapter("lokr", factor=4).split(12, 8)  # shapes of the small and the large side
((3, 2), (4, 4))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isqrt, prod

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class LoKr(LinearAdapter):
    """`W' = W + strength * scale * kron(C, D)`, with a small `C (out1, in1)` and a large `D (out2, in2)`.

    `out1` is the largest divisor of `out` that is at most `factor` and `sqrt(out)`, and `in1` likewise (Yeh et al. 2023,
    equations 4 and 5). `D` is a product `D_b D_a` of rank `rank`, unless the two factors would not be smaller than `D`
    itself. `D` (or its factor `D_a`) starts at zero, the others uniform, and `scale` is `alpha / rank`, or 1 if neither side
    is factored: both as in the authors' code.
    """

    name = "lokr"
    title = "Low-rank adaptation with Kronecker product"
    theme = Theme.RANK
    claim = "The change repeats one matrix over the blocks of the weight, with a factor for each block."
    paper = "https://arxiv.org/abs/2309.14859"
    size_knob = "rank"
    bounded_rank = False  # a large rank means a full side
    peft_kinds = ("LOKR",)

    rank: int = 8
    """Rank of the large side's factors. If they would not be smaller than the matrix, the matrix itself is trained."""
    alpha: float = 8.0
    """Numerator of `scale`."""
    factor: int = 8
    """Largest dimension of the small side; 0 for no limit but the square root. A method that is sized to a budget takes a
    smaller one where this is too large for the budget."""
    full: bool = False
    """True to train the large side as a full matrix at every rank."""
    both: bool = False
    """True to factor the small side too."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return (IdentityAtInit(), KroneckerProduct())

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        if self.full:
            return [self.rank]
        large = [self.split(rows, columns)[1] for rows, columns in shapes]
        return range(1, max(rows * columns // (rows + columns) for rows, columns in large) + 2)

    def settings_for(self, budget: int, shapes: Sequence[tuple[int, int]]) -> Mapping[str, object]:
        # As in the paper, a smaller factor gives more capacity: take the largest that can come within a tenth of the budget.
        if self.full:
            return {}
        smaller = (replace(self, factor=factor) for factor in range(self._largest(shapes) - 1, 1, -1))
        wider = [self, *(method for method in smaller if method._largest(shapes) == method.factor)]
        return {"factor": next((m.factor for m in wider if m._most(shapes) >= 0.9 * budget), wider[-1].factor)}

    def _largest(self, shapes: Sequence[tuple[int, int]]) -> int:
        """Return the largest dimension of a small side."""
        return max(side for rows, columns in shapes for side in self.split(rows, columns)[0])

    def _most(self, shapes: Sequence[tuple[int, int]]) -> int:
        """Return the number of parameters with full sides everywhere."""
        return sum(prod(side) for rows, columns in shapes for side in self.split(rows, columns))

    def split(self, rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the shapes of `C` and `D`.

        Args:
            rows: Number of output features.
            columns: Number of input features.
        """
        small = [
            max(d for d in range(1, min(self.factor or size, isqrt(size)) + 1) if size % d == 0)
            for size in (rows, columns)
        ]
        return (small[0], small[1]), (rows // small[0], columns // small[1])

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        small, large = self.split(*weight.shape)
        tensors = {}
        for side, (rows, columns), factored, zero in (
            ("c", small, self.both, False),
            ("d", large, not self.full, True),
        ):
            if factored and self.rank * (rows + columns) < rows * columns:
                right = context.zeros if zero else partial(context.uniform, bound=columns**-0.5)
                tensors[f"{side}_a"] = right(self.rank, columns)
                tensors[f"{side}_b"] = context.uniform(rows, self.rank, bound=self.rank**-0.5)
            else:
                whole = context.zeros if zero else partial(context.uniform, bound=columns**-0.5)
                tensors[side] = whole(rows, columns)
        return State(tensors)

    def scale(self, state: State) -> float:
        """Return the factor on the product.

        Args:
            state: State of the site.
        """
        return 1.0 if {"c", "d"} <= state.trainable.keys() else self.alpha / self.rank

    def sides(self, state: State) -> tuple[Float[Tensor, "out1 in1"], Float[Tensor, "out2 in2"]]:
        """Return `C` and `D`.

        Args:
            state: State of the site.
        """
        c, d = (
            state[side] if side in state.trainable else state[f"{side}_b"] @ state[f"{side}_a"] for side in ("c", "d")
        )
        return c, d

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        c, d = self.sides(state)
        product = (c[:, None, :, None] * d[None, :, None, :]).reshape(weight.shape)
        return weight + strength * self.scale(state) * product

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        # kron(C, D) x = C X D^T, with the input as a matrix X (in1, in2): the Kronecker product is not computed.
        c = state["c"] if "c" in state.trainable else state["c_b"] @ state["c_a"]
        blocks = torch.unflatten(x, -1, (c.shape[1], -1))
        if "d" in state.trainable:
            y = torch.matmul(blocks, state["d"].mT)
        else:
            y = torch.matmul(torch.matmul(blocks, state["d_a"].mT), state["d_b"].mT)
        y = torch.matmul(c * (strength * self.scale(state)), y)
        return linear(x) + y.flatten(-2)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        sides = {side for site in sites for side in site.base.shape}
        # A dimension of PEFT's small side is `decompose_factor` if that divides the side, even above the square root.
        # Without a factor PEFT splits as we do.
        bounded = all(side % self.factor == 0 and self.factor <= isqrt(side) for side in sides if self.factor)
        if self.factor and not bounded and any(self.factor < isqrt(side) for side in sides):
            raise CannotExportError(f"PEFT splits the sides of these layers differently for factor={self.factor}")
        ranks = {site.path: self._peft_rank(site) for site in sites}
        config = {
            "peft_type": "LOKR",
            "r": self.rank,
            "alpha": self.alpha,
            "decompose_factor": self.factor if self.factor and bounded else -1,
            "decompose_both": self.both,
            "rank_pattern": ranks,
            "alpha_pattern": {site.path: self.scale(site.state) * ranks[site.path] for site in sites},
        }
        return per_site(
            config, sites, lambda site: {f"lokr_{PEFT_SIDES[own]}": t for own, t in site.state.trainable.items()}
        )

    @classmethod
    def from_peft(cls, source: PeftSource) -> LoKr | None:
        settings = source.settings
        settings.only_at_start("init_weights", "use_effective_conv2d", "rank_dropout_scale")
        settings.only_in_training("rank_dropout", "module_dropout")
        factor = settings.whole("decompose_factor", -1)
        ranks = {*source.sizes("lokr_w2_b"), *source.sizes("lokr_w1_b")}
        if len(ranks) > 1:
            raise CannotLoadError(f"rank_pattern gives factors of the ranks {sorted(ranks)}, and here they have one")
        return cls(
            rank=ranks.pop() if ranks else settings.whole("r", 8),
            alpha=settings.number("alpha", 8),
            factor={-1: 0, 0: 1}.get(factor, factor),
            full=not source.sizes("lokr_w2_b"),
            both=settings.flag("decompose_both"),
        )

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        names = {own: f"lokr_{name}" for own, name in PEFT_SIDES.items() if own in site.start.trainable}
        if set(names.values()) != set(site.source.tensors[site.path]):
            raise CannotLoadError(f"at {site.path} it factors other sides of the Kronecker product than lokr does here")
        tensors = {own: site.take(name) for own, name in names.items()}
        settings = site.settings
        rank = settings.at(site.path, "rank_pattern", settings.whole("r", 8))
        scale = settings.at(site.path, "alpha_pattern", self.alpha) / rank / self.scale(site.start)
        large = "d" if "d" in tensors else "d_b"
        return {**tensors, large: tensors[large] * scale}

    def _peft_rank(self, site: PeftSite) -> int:
        """Return the rank to give to PEFT, which factors a side if the rank is below half of its larger dimension."""
        rows, columns = site.base.shape
        small, large = self.split(rows, columns)
        full = "d" in site.state.trainable
        rank = max(self.rank, -(-max(large) // 2)) if full else self.rank
        if full != (rank >= max(large) / 2) or ("c" in site.state.trainable) == (self.both and rank < max(small) / 2):
            raise CannotExportError(f"at {site.path} PEFT would not factor the same sides")
        return rank


PEFT_SIDES = {"c": "w1", "c_a": "w1_b", "c_b": "w1_a", "d": "w2", "d_a": "w2_b", "d_b": "w2_a"}
"""PEFT's names of the sides and their factors, without `lokr_`."""


@dataclass(frozen=True)
class KroneckerProduct(Invariant):
    """The change is a Kronecker product: its blocks are multiples of one matrix."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, LoKr)
        (r1, c1), (r2, c2) = adapter.split(*before.shape)
        blocks = (after - before).double().reshape(r1, r2, c1, c2).transpose(1, 2).reshape(r1 * c1, r2 * c2)
        s = torch.linalg.svdvals(blocks)
        return relative(s[1:], before, after)
