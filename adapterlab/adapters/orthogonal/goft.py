"""GOFT: a rotation of every feature needs no more angles than there are features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, PreservesGram
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.rotations import full_precision, rotate_blocks
from adapterlab.adapters.state import State

LARGEST_BLOCK = 32
"""Rounds of rotations are multiplied out into blocks of at most this width, and applied as one product."""


@dataclass(frozen=True)
class GOFT(LinearAdapter):
    """`W' = W R^T`, `R = P_1 P_2 ...`, where `P_r` turns the planes of features `2^r k` and `2^(r-1) (2 k + 1)`.

    `angles (in - 1,)` start at zero, round after round (Ma et al. 2024, equations 3 and 4); `strength` scales them. The
    paper's width is a power of two; at another, the feature without a partner waits for the next round, which keeps the
    number of rotations at `in - 1`. With `soft` each rotation is a free matrix instead, `blocks (in - 1, 2, 2)`, started
    at the identity (equation 5, qGOFT), which `strength` scales as `I + strength (G - I)`; `penalty` weighs the sum of
    the squared products of the two columns of each.
    """

    name = "goft"
    title = "Givens orthogonal fine-tuning"
    theme = Theme.ORTHOGONAL
    claim = "A chain of plane rotations, one angle a feature, turns a layer's input as any rotation would."
    paper = "https://arxiv.org/abs/2404.04316"

    soft: bool = False
    penalty: float = 0.0

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return (IdentityAtInit(),) if self.soft else (IdentityAtInit(), PreservesGram("rows"))

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rotations = weight.shape[1] - 1
        if not self.soft:
            return State({"angles": context.zeros(rotations)})
        eye = torch.eye(2, dtype=context.dtype, device=context.device)
        return State({"blocks": eye.repeat(rotations, 1, 1)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        for stride, blocks in reversed(list(self.rounds(state, weight.shape[1], strength))):
            weight = _on_leaders(weight, blocks.mT, stride)
        return weight

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        for stride, blocks in self.rounds(state, x.shape[-1], strength):
            x = _on_leaders(x, blocks, stride)
        return linear(x)

    def rounds(self, state: State, width: int, strength: float) -> Iterator[tuple[int, Float[Tensor, "blocks n n"]]]:
        """The rounds multiplied out, in order: a matrix for each run of leaders, the features at multiples of a stride."""
        turns = self.turns(state, strength)
        stride, leaders = 1, width
        while leaders > 1:
            size = leaders if leaders <= LARGEST_BLOCK else min(LARGEST_BLOCK, leaders & -leaders)
            size = leaders if size == 1 else size
            runs = leaders // size
            product: Tensor | None = None
            for step in (2**r for r in range((size - 1).bit_length())):
                pairs = -(-size // step) // 2
                given, turns = turns[: runs * pairs].unflatten(0, (runs, pairs)), turns[runs * pairs :]
                matrix = _planes(given, size, step)
                with full_precision(turns):
                    product = matrix if product is None else product @ matrix
            assert product is not None
            yield stride, product
            stride, leaders = stride * size, runs

    def turns(self, state: State, strength: float) -> Float[Tensor, "rotations 2 2"]:
        """The matrix of each plane."""
        if self.soft:
            blocks = state["blocks"]
            eye = torch.eye(2, dtype=blocks.dtype, device=blocks.device)
            return eye + strength * (blocks - eye)
        angle = strength * state["angles"]
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos, -sin, sin, cos], -1).unflatten(-1, (2, 2))

    def regularizer(self, state: State) -> Tensor | None:
        if not (self.soft and self.penalty):
            return None
        return self.penalty * state["blocks"].prod(-1).sum(-1).square().sum()


def _planes(turns: Float[Tensor, "runs pairs 2 2"], size: int, step: int) -> Float[Tensor, "runs size size"]:
    """Each run's identity with the matrices of its planes put in: features `2 step k` and `2 step k + step`."""
    runs, pairs = turns.shape[:2]
    first = torch.arange(pairs, device=turns.device) * (2 * step)
    both = torch.stack([first, first + step], 1)
    at = (both[:, :, None] * size + both[:, None, :]).flatten()
    eye = torch.eye(size, dtype=turns.dtype, device=turns.device).flatten()
    return eye.expand(runs, -1).index_copy(1, at, turns.flatten(1)).unflatten(1, (size, size))


def _on_leaders(
    x: Float[Tensor, "*batch width"], blocks: Float[Tensor, "blocks size size"], stride: int
) -> Float[Tensor, "*batch width"]:
    """`x` with every `stride`-th feature, from the first, multiplied by the block-diagonal matrix of `blocks`."""
    if stride == 1:
        return rotate_blocks(x, blocks)
    grouped = torch.unflatten(x, -1, (-1, stride))
    # A copy, lest the whole of x be kept for the backward pass.
    leaders = rotate_blocks(grouped[..., 0].contiguous(), blocks)
    return torch.cat([leaders[..., None], grouped[..., 1:]], -1).flatten(-2)
