"""ETHER+: two reflections on each side of the weight, which cancel at the start.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("ether_plus"), torch.eye(4)
>>> state = method.init(weight, Context.of_layer(weight))
>>> torch.allclose(method.weight(state, weight), weight)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine
from torch.nn.functional import normalize

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class ETHERPlus(LinearAdapter):
    """`W' = H_out W H_in`, each `H` block-diagonal with blocks `I + strength (v v^T - u u^T)`, `u` and `v` at length 1.

    The state is `in_u`, `in_v (block_count, in / block_count)` and `out_u`, `out_v (block_count, out / block_count)`. `u`
    starts random and `v` at `-u`, where the two cancel (Bini et al. 2024, section 3.3). `|H - I|_F` is at most `2
    sqrt(block_count)`, and in general neither `H` is orthogonal.
    """

    name = "ether_plus"
    title = "Relaxed fine-tuning by hyperplane reflections"
    theme = Theme.ORTHOGONAL
    claim = "Useful change is bounded in size but need not be orthogonal: two hyperplane reflections that can cancel."
    paper = "https://arxiv.org/abs/2405.20271"

    block_count: int = 1
    """Number of blocks of each `H`, a divisor of every side of the layers."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), RankAtMost("block_count", factor=4)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.block_count < 1 or any(side % self.block_count for shape in shapes for side in shape):
            return (
                f"block_count {self.block_count} does not divide every side of the layers: give 1, or a common divisor"
            )
        return None

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        tensors = {}
        for side, width in zip(("out", "in"), weight.shape, strict=True):
            size = width // self.block_count
            tensors[f"{side}_u"] = u = context.uniform(self.block_count, size, bound=size**-0.5)
            tensors[f"{side}_v"] = -u
        return State(tensors)

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return self.relaxed(self.relaxed(weight, state, "in", strength).T, state, "out", strength).T

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        x = self.relaxed(x, state, "in", strength)
        if linear.bias is None:
            return self.relaxed(linear(x), state, "out", strength)
        return self.relaxed(affine(x, linear.weight), state, "out", strength) + linear.bias

    def relaxed(self, x: Float[Tensor, "*batch width"], state: State, side: str, strength: float) -> Tensor:
        """Return `x H` for one side of the weight.

        Args:
            x: Row vectors.
            state: State of the site.
            side: `"in"` or `"out"`.
            strength: As in `weight`.
        """
        u, v = (normalize(state[f"{side}_{which}"], dim=-1) for which in ("u", "v"))
        blocks = torch.unflatten(x, -1, tuple(u.shape))
        along_u, along_v = ((blocks * n).sum(-1, keepdim=True) for n in (u, v))
        relaxed: Tensor = blocks + strength * (along_v * v - along_u * u)
        return relaxed.flatten(-2)
