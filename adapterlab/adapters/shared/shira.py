"""SHiRA: a sparse update of the weight.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("shira", rank=1, mask="magnitude"), torch.arange(16.0).view(4, 4)
>>> method.init(weight, Context.of_layer(weight))["entries"]  # as many as a LoRA of rank 1 trains
tensor([ 8,  9, 10, 11, 12, 13, 14, 15])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError

Mask = Literal["random", "magnitude", "gradient", "snip", "struct"]


@dataclass(frozen=True)
class SHiRA(LinearAdapter):
    """`W' = W + strength * S`, `S` zero except for `values` at `n` entries, as many as a LoRA of `rank` trains.

    `values (n,)` start at zero. `entries (n,)`, positions in `W` counted row by row, are chosen once, by the `mask`
    (Bhardwaj et al. 2024, section 3.1 and appendix B).
    """

    name = "shira"
    title = "Sparse high-rank adapter"
    theme = Theme.SHARED
    claim = "Changing one percent of the weights is enough if they are chosen well; the rank need not be low."
    paper = "https://arxiv.org/abs/2406.13175"
    size_knob = "rank"
    peft_kinds = ("SHIRA",)

    rank: int = 8
    """Rank of the LoRA that trains as many numbers."""
    mask: str = "random"
    """One of `random`; `magnitude`, the largest `|W|`; `gradient`, the largest `|G|`, where `G` is the gradient of the loss
    given to `attach(..., loss=)`; `snip`, the largest `|W * G|`; `struct`, the diagonal and as many evenly spaced rows as
    fit in `n`."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), OnlyAtEntries()

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(rows * columns // (rows + columns) for rows, columns in shapes) + 1)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.mask not in get_args(Mask):
            return f"mask {self.mask!r} is not one of {', '.join(get_args(Mask))}"
        most = self.sizes(shapes)[-1]
        if 1 <= self.rank <= most:
            return None
        return f"rank {self.rank} does not fit the number of entries of the smallest layer: give 1 to {most}"

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        entries = self.entries(weight, self.rank * (rows + columns), context)
        return State({"values": context.zeros(len(entries))}, {"entries": entries})

    def entries(self, weight: Float[Tensor, "out in"], count: int, context: Context) -> Int[Tensor, " n"]:
        """Return the positions of the trained entries, in ascending order.

        Args:
            weight: Base weight.
            count: Number of entries.
            context: Source of random numbers and of the gradient.

        Raises:
            AdapterlabError: If the mask needs a gradient and `attach` was given no loss.
        """
        rows, columns = weight.shape
        if self.mask == "random":
            return context.distinct(count, rows * columns)
        if self.mask == "struct":
            diagonal = torch.arange(min(rows, columns)) * (columns + 1)
            lines = (count - len(diagonal)) // columns
            chosen = torch.arange(lines)[:, None] * rows // lines * columns + torch.arange(columns)
            entries: Tensor = torch.unique(torch.cat([diagonal, chosen.flatten()]))
            return entries.to(context.device)
        if weight.is_meta:
            return torch.empty(count, dtype=torch.int64, device="meta")
        score = weight
        if self.mask != "magnitude":
            if context.gradient is None:
                raise AdapterlabError(
                    f"shira: the mask {self.mask!r} needs the gradient of a loss: attach(..., loss=lambda: model(...).loss)"
                )
            gradient = context.gradient()
            score = gradient if self.mask == "gradient" else weight * gradient
        return score.abs().flatten().topk(count).indices.sort().values

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        values = (strength * state["values"]).to(weight.dtype)
        return weight.flatten().index_add(0, state["entries"], values).view(weight.shape)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        def tensors(site: PeftSite) -> dict[str, Tensor]:
            rows, columns = site.base.shape
            entries = site.state["entries"]
            if len(entries) != self.rank * (rows + columns):
                raise CannotExportError(f"at {site.path} it does not have the number of entries that PEFT expects")
            indices = torch.stack([entries // columns, entries % columns]).int()
            return {"shira_weight": site.state["values"], "shira_indices": indices}

        return per_site({"peft_type": "SHIRA", "r": self.rank}, sites, tensors)

    @classmethod
    def from_peft(cls, source: PeftSource) -> SHiRA | None:
        settings = source.settings
        settings.only_at_start("init_weights", "mask_type", "random_seed")  # the tensors have the chosen entries
        return cls(rank=settings.whole("r", 32))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        row, column = site.take("shira_indices").long()
        entries, order = (row * site.base.shape[1] + column).sort()
        return {"entries": entries, "values": site.take("shira_weight").flatten()[order]}


@dataclass(frozen=True)
class OnlyAtEntries(Invariant):
    """Every weight that is not selected equals the base's, bit for bit."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        change = (after - before).flatten().index_fill(0, state["entries"], 0.0)
        return relative(change, before, after)
