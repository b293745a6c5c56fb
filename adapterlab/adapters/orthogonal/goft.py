"""GOFT: a rotation of the input as a chain of plane rotations, with one angle per feature.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("goft"), torch.eye(8)
>>> state = method.init(weight, Context.of_layer(weight))
>>> state["angles"].shape, torch.equal(method.weight(state, weight), weight)
(torch.Size([7]), True)
"""

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
"""Largest width of the blocks that several rounds of rotations are multiplied into before they are applied."""


@dataclass(frozen=True)
class GOFT(LinearAdapter):
    """`W' = W R^T`, `R = P_1 P_2 ...`, where `P_r` rotates the planes of features `2^r k` and `2^(r-1) (2 k + 1)`.

    `angles (in - 1,)`, in the order of the rounds, start at zero (Ma et al. 2024, equations 3 and 4); `strength` scales
    them. The paper's width is a power of two. For other widths, a feature without a partner is left to the next round, so
    that the number of rotations stays `in - 1`.
    """

    name = "goft"
    title = "Givens orthogonal fine-tuning"
    theme = Theme.ORTHOGONAL
    claim = "A chain of plane rotations, with one angle per feature, is as useful as any rotation of a layer's input."
    paper = "https://arxiv.org/abs/2404.04316"

    soft: bool = False
    """True to train a free 2 x 2 matrix `G` in place of each rotation, as `blocks (in - 1, 2, 2)` that start at the identity
    (equation 5, qGOFT). `strength` scales it as `I + strength (G - I)`."""
    penalty: float = 1.28
    """Weight, in the loss, of the squared inner products of the two columns of each `G`. The paper's sum over the 128
    adapted layers of LLaMA-2-7B has a weight of 0.01 (table 7), which is this weight of the mean."""

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
        """Yield `R` as a few block-diagonal matrices, each the product of several rounds, in the order of the rounds.

        Args:
            state: State of the site.
            width: Number of input features.
            strength: As in `weight`.

        Yields:
            A stride, and blocks that act on the features at multiples of it (the "leaders").
        """
        turns = self.turns(state, strength)
        stride, leaders = 1, width
        while leaders > 1:
            size = leaders if leaders <= LARGEST_BLOCK else min(LARGEST_BLOCK, leaders & -leaders)
            size = leaders if size == 1 else size
            runs = leaders // size
            product: Tensor | None = None
            for step in (2**r for r in range((size - 1).bit_length())):
                pairs = -(-size // step) // 2
                used, turns = torch.unflatten(turns[: runs * pairs], 0, (runs, pairs)), turns[runs * pairs :]
                matrix = _planes(used, size, step)
                with full_precision(turns):
                    product = matrix if product is None else product @ matrix
            assert product is not None
            yield stride, product
            stride, leaders = stride * size, runs

    def turns(self, state: State, strength: float) -> Float[Tensor, "rotations 2 2"]:
        """Return the 2 x 2 matrix of each plane.

        Args:
            state: State of the site.
            strength: As in `weight`.
        """
        if self.soft:
            eye = torch.eye(2, dtype=state["blocks"].dtype, device=state["blocks"].device)
            blocks: Tensor = eye + strength * (state["blocks"] - eye)
            return blocks
        angle = strength * state["angles"]
        cos, sin = angle.cos(), angle.sin()
        return torch.unflatten(torch.stack([cos, -sin, sin, cos], -1), -1, (2, 2))

    def regularizer(self, state: State) -> Tensor | None:
        if not (self.soft and self.penalty):
            return None
        return self.penalty * state["blocks"].prod(-1).sum(-1).square().sum()


def _planes(turns: Float[Tensor, "runs pairs 2 2"], size: int, step: int) -> Float[Tensor, "runs size size"]:
    """Return matrices that rotate, in each run, the planes of features `2 step k` and `2 step k + step`."""
    runs, pairs = turns.shape[:2]
    first = torch.arange(pairs, device=turns.device) * (2 * step)
    both = torch.stack([first, first + step], 1)
    at = (both[:, :, None] * size + both[:, None, :]).flatten()
    eye = torch.eye(size, dtype=turns.dtype, device=turns.device).flatten()
    return torch.unflatten(eye.expand(runs, -1).index_copy(1, at, turns.flatten(1)), 1, (size, size))


def _on_leaders(
    x: Float[Tensor, "*batch width"], blocks: Float[Tensor, "blocks size size"], stride: int
) -> Float[Tensor, "*batch width"]:
    """Return `x` with every `stride`-th feature, from the first, multiplied by the block-diagonal matrix of `blocks`."""
    if stride == 1:
        return rotate_blocks(x, blocks)
    grouped = torch.unflatten(x, -1, (-1, stride))
    # A copy, so that the backward pass does not keep the whole of x.
    leaders = rotate_blocks(grouped[..., 0].contiguous(), blocks)
    return torch.cat([leaders[..., None], grouped[..., 1:]], -1).flatten(-2)
