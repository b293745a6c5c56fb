"""Bone: an affine map of the blocks of the weight, shared by the blocks of a row.

>>> from adapterlab.adapters import State, adapter
>>> method, weight = adapter("bone", block_size=2), torch.ones(2, 4)
>>> method.weight(State({"b": torch.eye(2)[None]}), weight)
tensor([[3., 2., 3., 2.],
        [2., 3., 2., 3.]])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import LinearAdapter, common_divisors
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class Bone(LinearAdapter):
    """`W'_ij = W_ij + strength * (W_ij B_i + B_i)`, for each `size x size` block `W_ij` of the weight.

    `B (out / size, size, size)` has one matrix for each row of blocks, and starts at zero; `size` is `block_size` (Kang
    2024). This is the block-affine form in an earlier version of the paper on MiSS; MiSS is the form without `W_ij B_i`.
    """

    name = "bone"
    title = "Block-affine adaptation"
    theme = Theme.SHARED
    claim = "A group of neurons needs one small affine map, the same for every block of inputs."
    paper = "https://arxiv.org/abs/2409.15371"
    size_knob = "block_size"
    peft_kinds = ("MISS",)
    peft_names: ClassVar[Mapping[str, str]] = {"miss_block": "b"}

    block_size: int = 64
    """Rows and columns of a block, a divisor of every side of the layers."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), SharedAffineMap()

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return common_divisors(side for shape in shapes for side in shape)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        fits = self.sizes(shapes)
        if self.block_size in fits:
            return None
        return f"block_size {self.block_size} does not divide every side: give one of {', '.join(map(str, fits))}"

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        size = self.block_size
        return State({"b": context.zeros(weight.shape[0] // size, size, size)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        b = strength * state["b"]
        groups, size, _ = b.shape
        factors = b + torch.eye(size, dtype=b.dtype, device=b.device)
        # The blocks of a row are stacked, so that a single product multiplies them all and adds `B_i` to each.
        added = b[:, :, None].expand(-1, -1, weight.shape[1] // size, -1).reshape(groups, -1, size)
        return torch.baddbmm(added, weight.reshape(groups, -1, size), factors).reshape(weight.shape)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        config = {"peft_type": "MISS", "r": self.block_size, "init_weights": "bat"}
        return per_site(config, sites, self.peft_names)

    @classmethod
    def from_peft(cls, source: PeftSource) -> Bone | None:
        settings = source.settings
        if settings.get("init_weights", True) != "bat":
            return None
        settings.only_at_start("mini_r")  # of another variant
        settings.only_in_training("miss_dropout")
        return cls(block_size=settings.whole("r", 64))


@dataclass(frozen=True)
class SharedAffineMap(Invariant):
    """Within a row of blocks, the difference of two blocks is multiplied by the same matrix `I + B_i` for all pairs."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, Bone)
        size = adapter.block_size
        old, new = (w.double().reshape(-1, size, w.shape[1] // size, size).transpose(1, 2) for w in (before, after))
        old, new = ((blocks - blocks[:, :1]).flatten(1, 2) for blocks in (old, new))
        mapped = old + old @ state["b"].double()
        return relative(new - mapped, before, after)
