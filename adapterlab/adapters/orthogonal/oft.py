"""OFT: useful change rotates the weight, and keeps the angles between its neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Context, Linear, LinearAdapter, State, Theme, common_divisors
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, NegativeStrengthInverts, PreservesGram


@dataclass(frozen=True)
class OFT(LinearAdapter):
    """`W' = W R^T`, `R` block-diagonal with blocks `(I + Q)(I - Q)^-1`, `Q = strength * skew` (Cayley).

    `skew` holds the upper triangle of each block's skew-symmetric matrix, `(in / block_size, block_size (block_size - 1)
    / 2)`, and starts at zero (Qiu et al. 2023, section 3.3). A row of `weight` is a neuron, so rotating the input side
    keeps every neuron's length and the angles between neurons: the hyperspherical energy.
    """

    name = "oft"
    title = "Orthogonal fine-tuning"
    theme = Theme.ORTHOGONAL
    claim = "Useful change rotates what a layer listens to and keeps the angles between its neurons."
    paper = "https://arxiv.org/abs/2306.07280"
    size_knob = "block_size"

    block_size: int = 32

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), PreservesGram("rows"), NegativeStrengthInverts()

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return common_divisors(columns for _, columns in shapes)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        fits = self.sizes(shapes)
        if self.block_size in fits:
            return None
        return (
            f"block_size {self.block_size} does not divide every input width: give one of {', '.join(map(str, fits))}"
        )

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        size = self.block_size
        return State({"skew": context.zeros(weight.shape[1] // size, size * (size - 1) // 2)})

    def rotation(self, state: State, strength: float) -> Float[Tensor, "blocks size size"]:
        """The blocks of `R`."""
        skew = state["skew"]
        upper = torch.triu_indices(self.block_size, self.block_size, 1, device=skew.device)
        q = skew.new_zeros(len(skew), self.block_size, self.block_size)
        q = q.index_put((torch.arange(len(skew), device=skew.device)[:, None], upper[0], upper[1]), strength * skew)
        q = q - q.mT
        eye = torch.eye(self.block_size, dtype=skew.dtype, device=skew.device)
        return torch.linalg.solve(eye - q, eye + q)

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return self._rotate(weight, self.rotation(state, strength))

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        # x (W R^T)^T = (x R) W^T: rotate the input, which is smaller than the weight.
        return linear(self._rotate(x, self.rotation(state, strength).mT))

    def _rotate(self, x: Float[Tensor, "*batch in"], blocks: Tensor) -> Float[Tensor, "*batch in"]:
        return torch.einsum("...bi,bji->...bj", x.unflatten(-1, (-1, self.block_size)), blocks).flatten(-2)
