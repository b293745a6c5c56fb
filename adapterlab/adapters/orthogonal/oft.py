"""OFT: a block-diagonal rotation of the input.

>>> import torch
>>> from adapterlab.adapters import State, adapter
>>> method, weight = adapter("oft", block_size=2), torch.tensor([[3.0, 4.0], [1.0, 0.0]])
>>> method.weight(State({"skew": torch.tensor([[1.0]])}), weight)  # a quarter turn of every row
tensor([[ 4., -3.],
        [ 0., -1.]])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, NegativeStrengthInverts, PreservesGram
from adapterlab.adapters.linear import Linear, LinearAdapter, common_divisors
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored
from adapterlab.adapters.rotations import cayley, rotate_blocks, skew_symmetric
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class OFT(LinearAdapter):
    """`W' = W R^T`, `R` block-diagonal with blocks `(I + Q)(I - Q)^-1`, `Q = strength * skew` (Cayley).

    `skew (in / block_size, block_size (block_size - 1) / 2)` is the upper triangle of each block's skew-symmetric matrix,
    and starts at zero (Qiu et al. 2023, section 3.3). A row of `weight` is a neuron, so a rotation of the input side keeps
    the lengths of neurons and the angles between them, and with these the hyperspherical energy.
    """

    name = "oft"
    title = "Orthogonal fine-tuning"
    theme = Theme.ORTHOGONAL
    claim = "Useful change rotates the inputs of a layer and keeps the angles between its neurons."
    paper = "https://arxiv.org/abs/2306.07280"
    size_knob = "block_size"
    peft_kinds = ("OFT",)
    _series: ClassVar[bool] = False

    block_size: int = 32
    """Number of features in a block."""
    block_count: int = 0
    """Number of blocks, if above 0; it then replaces `block_size`."""
    block_share: bool = False
    """True if all blocks are the same."""
    coft: bool = False
    """True to keep `Q` within a ball of radius `eps`, by a projection after each step (equation 4)."""
    eps: float = 6e-5
    """Size of that ball: of `n` blocks of `b` features, each has a Frobenius norm of at most `eps b^2 / sqrt(n)`."""

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
        """Return the blocks of `R`; a single one if all are the same.

        Args:
            state: State of the site.
            width: Number of input features.
            strength: As in `weight`.
        """
        return self.orthogonal(skew_symmetric(strength * state["skew"], self._size(width)))

    def orthogonal(self, q: Float[Tensor, "blocks size size"]) -> Float[Tensor, "blocks size size"]:
        """Return the rotations that belong to skew-symmetric matrices.

        Args:
            q: The skew-symmetric matrices.
        """
        return cayley(q)

    def after_step(self, states: Sequence[State], step: int) -> None:
        if not self.coft:
            return
        for state in states:
            skew = state["skew"]
            size = (
                1 + (1 + 8 * skew.shape[1]) ** 0.5
            ) / 2  # of a block, whose triangle has size (size - 1) / 2 entries
            radius = self.eps * size**2 / len(skew) ** 0.5
            norm = skew.square().sum(1, keepdim=True).mul(2).sqrt()  # of the whole matrix, which has each entry twice
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

    @classmethod
    def from_peft(cls, source: PeftSource) -> OFT | None:
        settings = source.settings
        if settings.flag("use_cayley_neumann", True) is not cls._series:
            return None
        settings.only_at_start("init_weights", "num_cayley_neumann_terms")
        settings.only_in_training("module_dropout")
        return cls(
            block_size=settings.whole("oft_block_size", 32) or cls.block_size,
            block_count=settings.whole("r"),
            block_share=settings.flag("block_share"),
            coft=settings.flag("coft"),
            eps=settings.number("eps", 6e-5),
        )

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        return {"skew": -site.take("oft_R.weight")}
