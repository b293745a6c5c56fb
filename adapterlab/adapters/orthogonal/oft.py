"""OFT: useful change rotates the weight, and keeps the angles between its neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, NegativeStrengthInverts, PreservesGram
from adapterlab.adapters.linear import Linear, LinearAdapter, common_divisors
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.rotations import cayley, rotate_blocks, skew_symmetric
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class OFT(LinearAdapter):
    """`W' = W R^T`, `R` block-diagonal with blocks `(I + Q)(I - Q)^-1`, `Q = strength * skew` (Cayley).

    `skew` holds the upper triangle of each block's skew-symmetric matrix, `(in / block_size, block_size (block_size - 1)
    / 2)`, and starts at zero (Qiu et al. 2023, section 3.3). A row of `weight` is a neuron, so rotating the input side
    keeps every neuron's length and the angles between neurons: the hyperspherical energy.

    A `block_count` above 0 sets the number of blocks instead of their size; with `block_share` one block serves all.
    `coft` holds `Q` within a ball of radius `eps` (equation 4, by projected gradient descent: the projection is
    `after_step`), each of `n` blocks within `eps / sqrt(n)` of zero in Frobenius norm.
    """

    name = "oft"
    title = "Orthogonal fine-tuning"
    theme = Theme.ORTHOGONAL
    claim = "Useful change rotates what a layer listens to and keeps the angles between its neurons."
    paper = "https://arxiv.org/abs/2306.07280"
    size_knob = "block_size"

    block_size: int = 32
    block_count: int = 0
    block_share: bool = False
    coft: bool = False
    eps: float = 6e-5

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), PreservesGram("rows"), NegativeStrengthInverts()

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return [self.block_size] if self.block_count else common_divisors(columns for _, columns in shapes)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        fits = common_divisors(columns for _, columns in shapes)
        if self.block_count:
            smallest = min(columns for _, columns in shapes)
            counts = [1, *(n for n in fits if n <= smallest // 2)]
            if self.block_count not in counts:
                return (
                    f"block_count {self.block_count} does not divide every input width into blocks of 2 or more: "
                    f"give one of {', '.join(map(str, counts))}"
                )
        elif self.block_size not in fits:
            sizes = ", ".join(map(str, fits))
            return f"block_size {self.block_size} does not divide every input width: give one of {sizes}"
        return None

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        size = self._size(weight.shape[1])
        blocks = 1 if self.block_share else weight.shape[1] // size
        return State({"skew": context.zeros(blocks, size * (size - 1) // 2)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        return rotate_blocks(weight, self.rotation(state, weight.shape[1], strength).mT)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        # x (W R^T)^T = (x R) W^T: rotate the input, which is smaller than the weight.
        return linear(rotate_blocks(x, self.rotation(state, x.shape[-1], strength)))

    def rotation(self, state: State, width: int, strength: float) -> Float[Tensor, "blocks size size"]:
        """The blocks of `R`; one alone stands for all."""
        return self.orthogonal(skew_symmetric(strength * state["skew"], self._size(width)))

    def orthogonal(self, q: Float[Tensor, "blocks size size"]) -> Float[Tensor, "blocks size size"]:
        """The rotation that the skew-symmetric `q` stands for."""
        return cayley(q)

    def after_step(self, states: Sequence[State], step: int) -> None:
        if not self.coft:
            return
        for state in states:
            skew = state["skew"]
            radius = self.eps / len(skew) ** 0.5
            norm = skew.square().sum(1, keepdim=True).mul(2).sqrt()  # of the whole matrix: each entry stands twice
            skew.mul_((radius / norm).clamp_max(1.0))

    def _size(self, width: int) -> int:
        return width // self.block_count if self.block_count else self.block_size

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        config = {
            "peft_type": "OFT",
            "r": self.block_count,
            "oft_block_size": 0 if self.block_count else self.block_size,
            "block_share": self.block_share,
            "module_dropout": 0.0,
            "use_cayley_neumann": False,
        }
        # PEFT's exact transform is the inverse of the paper's.
        return per_site(config, sites, lambda site: {"oft_R.weight": -site.state["skew"]})
