"""ETHER: a reflection of the input, whose direction is trained.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("ether"), torch.eye(4)
>>> state = method.init(weight, Context.of_layer(weight))
>>> reflection = method.weight(state, weight)
>>> torch.allclose(reflection @ reflection, weight, atol=1e-6)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import DistanceAtMost, Invariant, PreservesGram, SelfInverse
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class ETHER(LinearAdapter):
    """`W' = W H`, `H` block-diagonal with blocks `I - 2 strength u u^T`, `u` a row of `normals` at length 1.

    `normals (block_count, in / block_count)` starts random (Bini et al. 2024, equation 1 and section 3.4). `|H - I|_F` is
    `2 sqrt(block_count)` for all normals, so training does not start at the base; the number of parameters is the layer's
    width for any number of blocks. Rotations do not lead from the identity to a reflection, so `strength` scales the
    distance, and only strengths 0 and 1 are orthogonal.
    """

    name = "ether"
    title = "Efficient fine-tuning by hyperplane reflections"
    theme = Theme.ORTHOGONAL
    claim = "A change of fixed size is enough; a layer only learns its direction."
    paper = "https://arxiv.org/abs/2405.20271"

    block_count: int = 1
    """Number of blocks of `H`, a divisor of every input width."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return PreservesGram("rows"), SelfInverse(), DistanceAtMost(2.0)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.block_count < 1 or any(columns % self.block_count for _, columns in shapes):
            return f"block_count {self.block_count} does not divide every input width: give 1, or a common divisor"
        return None

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        size = weight.shape[1] // self.block_count
        return State({"normals": context.uniform(self.block_count, size, bound=size**-0.5)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return reflect(weight, state["normals"], -2 * strength)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        return linear(reflect(x, state["normals"], -2 * strength))


def reflect(
    x: Float[Tensor, "*batch width"], normals: Float[Tensor, "blocks size"], factor: float
) -> Float[Tensor, "*batch width"]:
    """Return `x (I + factor u u^T)` block by block, where `u` is a normal scaled to length 1.

    Args:
        x: Row vectors.
        normals: One normal for each block of features.
        factor: -2 for a reflection.
    """
    u = normalize(normals, dim=-1)
    blocks = torch.unflatten(x, -1, tuple(u.shape))
    along: Tensor = (blocks * u).sum(-1, keepdim=True)
    reflected: Tensor = blocks + factor * along * u
    return reflected.flatten(-2)
