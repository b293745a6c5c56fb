"""Bone: each group of outputs goes through an affine map of its own, the same for every block of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Context, LinearAdapter, State, Theme, common_divisors
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative


@dataclass(frozen=True)
class Bone(LinearAdapter):
    """`W'_ij = W_ij + strength * (W_ij B_i + B_i)`, for each `size x size` block `W_ij` of the weight.

    `size` is `block_size`; `B (out / size, size, size)`, one matrix for each row of blocks, starts at zero (Kang 2024, the
    block-affine form in an earlier version of the paper that is now MiSS; its plain form, without `W_ij B_i`, is MiSS).
    """

    name = "bone"
    title = "Block-affine adaptation"
    theme = Theme.SHARED
    claim = "One small affine map, the same for every block of inputs, is the change that a group of neurons needs."
    paper = "https://arxiv.org/abs/2409.15371"
    size_knob = "block_size"

    block_size: int = 64

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
        size, b = self.block_size, state["b"]
        # All blocks of a row below each other, so that one product with B_i takes them all.
        blocks = weight.reshape(len(b), size, -1, size)
        moved = torch.matmul(blocks.flatten(1, 2), b).view_as(blocks) + b[:, :, None]
        return weight + strength * moved.reshape(weight.shape)


@dataclass(frozen=True)
class SharedAffineMap(Invariant):
    """Within a row of blocks, one matrix takes every difference of two blocks to the difference of what became of them."""

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, Bone)
        size = adapter.block_size
        old, new = (w.double().reshape(-1, size, w.shape[1] // size, size).transpose(1, 2) for w in (before, after))
        old, new = ((blocks - blocks[:, :1]).flatten(1, 2) for blocks in (old, new))
        mapped = old + old @ state["b"].double()
        return relative(new - mapped, before, after)
