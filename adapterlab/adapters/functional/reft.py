"""ReFT: a trained edit of the residual stream at some layers and positions.

>>> from adapterlab.adapters import Context, adapter
>>> method = adapter("reft", rank=2)
>>> state = method.init(8, Context.of_layer(torch.empty(8, 8)))
>>> bool((method.change(state, torch.randn(1, 14, 8)).abs() < 1e-5).all())
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.adapter_types import ResidualAdapter
from adapterlab.adapters.base import Property, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import OrthonormalRows
from adapterlab.adapters.model_invariants import AnswersAsBaseAtInit, AnswersForOwnTokens, ChangesNoParameter
from adapterlab.adapters.state import State

VARIANTS = ("loreft", "direft", "direft_orthonormal")
"""Values of `variant`."""
WHERE = ("auto", "prompt", "everywhere")
"""Values of `where`."""


@dataclass(frozen=True)
class ReFT(ResidualAdapter):
    """LoReFT: `h + strength * R^T (W h + b - R h)`. DiReFT: `h + strength * R^T (W h + b)`.

    `W (rank, width)` and `b (rank,)` are free parameters. In LoReFT, `R (rank, width)` has orthonormal rows (Wu et al.
    2024, equation 2), computed from a free matrix by Gram-Schmidt. In DiReFT, `R` is free (equation 3); the authors' code
    keeps its rows orthonormal there too, which is the variant `direft_orthonormal`.

    The first `start` and the last `end` positions of a prompt are edited (`p` and `s` in section 4; halved if the prompt
    is shorter than both). Running text has no prompt; all its positions are edited.

    `R` starts random orthonormal. The model starts as the base: `W` starts at `R` (LoReFT) or zero (DiReFT), and `b` at
    zero. In the authors' code `W` and `b` start as in linear layers, which moves the model off the base by more the higher
    the rank is; `identity_start=False` asks for that.
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
    """Number of edited positions at the start of a prompt."""
    end: int = 7
    """Number of edited positions at the end of a prompt."""
    where: str = "auto"
    """`prompt` to edit the ends of prompts, and of running text as if it were a prompt; `everywhere` to edit all positions,
    also generated ones; `auto` for the one that fits the data that `attach` is told of, else the ends of prompts and all
    positions of running text, told apart by the labels of each call."""
    tied: bool = True
    """True if the positions of a layer share one edit, False if each has its own."""
    identity_start: bool = True
    """True to start as the base model, False to start `W` and `b` at random as in the authors' code."""

    @property
    def invariants(self) -> tuple[Property, ...]:
        start = (AnswersAsBaseAtInit(),) if self.identity_start else ()
        always = *start, ChangesNoParameter(), AnswersForOwnTokens()
        return always if self.variant == "direft" else (*always, OrthonormalRows("subspace"))

    @property
    def starts_as_base(self) -> bool:
        return self.identity_start

    @property
    def positions(self) -> tuple[int, int] | None:
        return None if self.where == "everywhere" else (self.start, self.end)

    @property
    def edits_whole_text(self) -> bool:
        return self.where == "auto" and self.tied

    def informed(self, *, paired: bool, prompted: bool | None = None) -> ReFT:
        if self.where != "auto" or prompted is None:
            return self
        return replace(self, where="prompt" if prompted or not self.tied else "everywhere")

    def chooses(self, layer: int, layers: int) -> bool:
        return not self.layers or layer in self.layers

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        width = shapes[0][0]
        if not 1 <= self.rank <= width:
            return f"rank {self.rank} does not fit a residual stream {width} wide: give 1 to {width}"
        if self.variant not in VARIANTS:
            return f"variant {self.variant!r} is not one of {', '.join(VARIANTS)}"
        if self.where not in WHERE:
            return f"where {self.where!r} is not one of {', '.join(WHERE)}"
        everywhere = self.where == "everywhere"
        if min(self.start, self.end) < 0 or (self.start + self.end == 0 and not everywhere):
            return f"start {self.start} and end {self.end} select no position: give one of them, or where='everywhere'"
        if len(shapes) < len(set(self.layers)):
            return (
                f"layers {list(self.layers)} are more than the model's {len(shapes)} blocks: give their numbers, from 0"
            )
        if everywhere and not self.tied:
            return "where='everywhere' has no fixed number of positions, each with its own edit: give tied=True"
        return None

    def init(self, width: int, context: Context) -> State:
        slots = 1 if self.tied else self.start + self.end
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
        self,
        state: State,
        hidden: Float[Tensor, "batch tokens width"],
        slots: Int[Tensor, "batch tokens"] | None = None,
        strength: float = 1.0,
    ) -> Float[Tensor, "batch tokens width"]:
        r = self.subspace(state)
        w, b = state["w"] - r if self.variant == "loreft" else state["w"], state["b"]
        if self.tied:
            return strength * (affine(hidden, w[0], b[0]) @ r[0])
        assert slots is not None, "`validate` allows no edits of their own without slots"
        used = (slots[..., None] == torch.arange(len(b), device=slots.device))[..., None]
        inner = (torch.einsum("btd,srd->btsr", hidden, w) + b) * used
        return strength * torch.einsum("btsr,srd->btd", inner, r)
