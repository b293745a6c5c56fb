"""ReFT: a trained edit of the residual stream at some layers and positions.

>>> from adapterlab.adapters import Context, adapter
>>> method = adapter("reft", rank=2, identity_start=True)
>>> state = method.init(8, Context.of_layer(torch.empty(8, 8)))
>>> bool((method.change(state, torch.randn(1, 14, 8)).abs() < 1e-5).all())
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.adapter_types import ResidualAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import OrthonormalRows
from adapterlab.adapters.model_invariants import AnswersForOwnTokens, ChangesNoParameter
from adapterlab.adapters.state import State

VARIANTS = ("loreft", "direft", "direft_orthonormal")
"""Values of `variant`."""


@dataclass(frozen=True)
class ReFT(ResidualAdapter):
    """LoReFT: `h + strength * R^T (W h + b - R h)`. DiReFT: `h + strength * R^T (W h + b)`.

    `W (rank, width)` and `b (rank,)` are free parameters. In LoReFT, `R (rank, width)` has orthonormal rows (Wu et al.
    2024, equation 2), computed from a free matrix by Gram-Schmidt. In DiReFT, `R` is free (equation 3); the authors' code
    keeps its rows orthonormal there too, which is the variant `direft_orthonormal`.

    The first `start` and the last `end` positions of the prompt are edited (`p` and `s` in section 4; halved if the
    prompt is shorter than both). `R` starts random orthonormal, and `W` and `b` start as in linear layers, so the model
    differs from the base from the start, as in the authors' code.
    """

    name = "reft"
    title = "Representation fine-tuning"
    theme = Theme.FUNCTIONAL
    claim = "A task needs an edit of a few directions of the residual stream, at a few positions."
    paper = "https://arxiv.org/abs/2404.03592"
    size_knob = "rank"

    rank: int = 4
    """Number of edited directions."""
    variant: str = "loreft"
    """One of `loreft`, `direft` and `direft_orthonormal`."""
    layers: tuple[int, ...] = ()
    """Numbers of the edited blocks, from 0; empty for all blocks."""
    start: int = 7
    """Number of edited positions at the start of the prompt."""
    end: int = 7
    """Number of edited positions at the end of the prompt."""
    everywhere: bool = False
    """True to edit all positions, also generated ones, instead of `start` and `end`."""
    tied: bool = True
    """True if the positions of a layer share one edit, False if each has its own."""
    identity_start: bool = False
    """True to start without an edit: `W` at `R` (LoReFT) or zero (DiReFT), and `b` at zero."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        always = ChangesNoParameter(), AnswersForOwnTokens()
        return always if self.variant == "direft" else (*always, OrthonormalRows("subspace"))

    @property
    def starts_as_base(self) -> bool:
        return self.identity_start

    @property
    def positions(self) -> tuple[int, int] | None:
        return None if self.everywhere else (self.start, self.end)

    def chooses(self, layer: int, layers: int) -> bool:
        return not self.layers or layer in self.layers

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        width = shapes[0][0]
        if not 1 <= self.rank <= width:
            return f"rank {self.rank} does not fit a residual stream {width} wide: give 1 to {width}"
        if self.variant not in VARIANTS:
            return f"variant {self.variant!r} is not one of {', '.join(VARIANTS)}"
        if min(self.start, self.end) < 0 or (self.start + self.end == 0 and not self.everywhere):
            return f"start {self.start} and end {self.end} select no position: give one of them, or everywhere=True"
        if len(shapes) < len(set(self.layers)):
            return (
                f"layers {list(self.layers)} are more than the model's {len(shapes)} blocks: give their numbers, from 0"
            )
        if self.everywhere and not self.tied:
            return "everywhere=True has no fixed number of positions, so they cannot have edits of their own: give tied=True"
        return None

    def init(self, width: int, context: Context) -> State:
        slots = 1 if self.tied or self.everywhere else self.start + self.end
        basis, _ = torch.linalg.qr(context.normal(slots, width, self.rank))
        r = basis.mT
        if self.identity_start:
            w = r.clone() if self.variant == "loreft" else context.zeros(slots, self.rank, width)
            return State({"r": r, "w": w, "b": context.zeros(slots, self.rank)})
        w = context.uniform(slots, self.rank, width, bound=width**-0.5)
        return State({"r": r, "w": w, "b": context.uniform(slots, self.rank, bound=width**-0.5)})

    def subspace(self, state: State) -> Float[Tensor, "slots rank width"]:
        """Return `R` for every slot; there is one slot if positions are tied.

        Args:
            state: State of the site.
        """
        if self.variant == "direft":
            return state["r"]
        basis, triangle = torch.linalg.qr(state["r"].mT)
        # As in Gram-Schmidt, the diagonal of the triangle becomes positive, so that an orthonormal `R` is unchanged.
        signs = torch.sign(torch.diagonal(triangle, dim1=-2, dim2=-1))
        rows: Tensor = (basis * signs[..., None, :]).mT
        return rows

    def change(
        self, state: State, hidden: Float[Tensor, "batch positions width"], strength: float = 1.0
    ) -> Float[Tensor, "batch positions width"]:
        r = self.subspace(state)
        inner = torch.einsum("bpd,prd->bpr", hidden, state["w"] - r if self.variant == "loreft" else state["w"])
        return strength * torch.einsum("bpr,prd->bpd", inner + state["b"], r)
