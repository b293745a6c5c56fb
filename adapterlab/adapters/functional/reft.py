"""ReFT: what a model holds in its residual stream is edited, and no weight."""

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


@dataclass(frozen=True)
class ReFT(ResidualAdapter):
    """LoReFT: `h + strength * R^T (W h + b - R h)`. DiReFT: `h + strength * R^T (W h + b)`.

    `W (rank, width)` and `b (rank,)` are free; `R (rank, width)` has orthonormal rows in LoReFT (Wu et al. 2024,
    equation 2), made from a free matrix by Gram-Schmidt, and is free in DiReFT (equation 3), where the authors' own
    code keeps the rows orthonormal too: that is `direft_orthonormal`.

    Edited are the first `start` and the last `end` positions of the prompt (section 4: `p` and `s`, halved on a
    prompt shorter than both), or, with `everywhere`, all positions and what is generated. `layers` names blocks
    from 0, none for all. The positions of a layer share one edit if `tied`, else each slot has its own. `R` starts
    random orthonormal and `W`, `b` as linear layers do, so the model is changed from the start, as in the authors'
    code; with `identity_start`, `W` starts at `R` (LoReFT) or zero (DiReFT) and `b` at zero.
    """

    name = "reft"
    title = "Representation fine-tuning"
    theme = Theme.FUNCTIONAL
    claim = "What a task needs is an edit of a few directions of the residual stream, at a few positions."
    paper = "https://arxiv.org/abs/2404.03592"
    size_knob = "rank"

    rank: int = 4
    variant: str = "loreft"
    layers: tuple[int, ...] = ()
    start: int = 7
    end: int = 7
    everywhere: bool = False
    tied: bool = True
    identity_start: bool = False

    @property
    def invariants(self) -> tuple[Property, ...]:
        held = ChangesNoParameter(), AnswersForOwnTokens()
        return held if self.variant == "direft" else (*held, OrthonormalRows("subspace"))

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
            return f"variant {self.variant!r} is none of {', '.join(VARIANTS)}"
        if min(self.start, self.end) < 0 or (self.start + self.end == 0 and not self.everywhere):
            return f"start {self.start} and end {self.end} name no position: give one of them, or everywhere=True"
        if len(shapes) < len(set(self.layers)):
            return f"layers {list(self.layers)} are more than the model has: name blocks from 0"
        if self.everywhere and not self.tied:
            return "an edit of every position cannot be one a position: tied=True"
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
        """`R`."""
        if self.variant == "direft":
            return state["r"]
        basis, scale = torch.linalg.qr(state["r"].mT)
        # Gram-Schmidt leaves what is orthonormal as it is: the diagonal of its triangle is positive.
        return (basis * torch.sign(torch.diagonal(scale, dim1=-2, dim2=-1))[..., None, :]).mT

    def change(
        self, state: State, hidden: Float[Tensor, "batch positions width"], strength: float = 1.0
    ) -> Float[Tensor, "batch positions width"]:
        r = self.subspace(state)
        inner = torch.einsum("bpd,prd->bpr", hidden, state["w"] - r if self.variant == "loreft" else state["w"])
        return strength * torch.einsum("bpr,prd->bpd", inner + state["b"], r)
