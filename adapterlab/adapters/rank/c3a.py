"""C3A: the change of a weight is a circular convolution, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import Linear, LinearAdapter, common_divisors
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class C3A(LinearAdapter):
    """`W' = W + strength * C(kernel)`: each `size x size` block of `C` is circulant, with a kernel as its first row.

    `kernel (out / size, in / size, size)` starts at zero; row `k` of a block is the first turned right by `k`, and `size` is
    `block_size`, which divides both sides (Chen et al. 2025, sections 3.2 and 3.4, equation 4). Applied to an input, a
    block is a product in the frequency domain (equation 1). `scaled` divides by `in`, as PEFT does and the paper does not.
    """

    name = "c3a"
    title = "Circular convolution adaptation"
    theme = Theme.RANK
    claim = "The change is a circular convolution: of full rank, and the same wherever a pattern stands."
    paper = "https://arxiv.org/abs/2407.19342"
    size_knob = "block_size"

    block_size: int = 256
    scaled: bool = False

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), BlockCirculant()

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return common_divisors(side for shape in shapes for side in shape)[::-1]  # a larger block has fewer parameters

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        fits = sorted(self.sizes(shapes))
        if self.block_size in fits:
            return None
        return f"block_size {self.block_size} does not divide every side: give one of {', '.join(map(str, fits))}"

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        size = self.block_size
        return State({"kernel": context.zeros(weight.shape[0] // size, weight.shape[1] // size, size)})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        k = torch.arange(self.block_size, device=weight.device)
        blocks = state["kernel"][..., (k - k[:, None]) % self.block_size]
        return weight + strength * self.scale(weight.shape[1]) * blocks.transpose(1, 2).reshape(weight.shape)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        blocks = x.reshape(-1, state["kernel"].shape[1], self.block_size)
        kernel = state["kernel"] * (strength * self.scale(x.shape[-1]))
        y = cast(Tensor, _Correlation.apply(blocks, kernel))
        return linear(x) + y.reshape(*x.shape[:-1], -1)

    def scale(self, columns: int) -> float:
        """The factor on the circulant blocks."""
        return 1 / columns if self.scaled else 1.0

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        def kernel(site: PeftSite) -> dict[str, Tensor]:
            columns = site.base.shape[1]
            return {"c3a_kernel": site.state["kernel"] * (self.scale(columns) * columns)}  # PEFT divides by `in`

        return per_site({"peft_type": "C3A", "block_size": self.block_size}, sites, kernel)


class _Correlation(torch.autograd.Function):
    """`y_k = sum_l kernel_(l - k) x_l` in every pair of blocks, summed over those of `x (inputs, blocks, size)`.

    Of the real transforms that the gradients are made of, nothing is kept.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, kernel: Tensor) -> Tensor:
        return _signal(torch.bmm(_spectrum(x.to(kernel.dtype)), _spectrum(kernel).mH), kernel.shape[-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        size, g = kernel.shape[-1], _spectrum(gradients[0])
        by_x = _signal(torch.bmm(g, _spectrum(kernel)), size).to(x.dtype) if ctx.needs_input_grad[0] else None
        by_kernel = _signal(torch.bmm(g.mH, _spectrum(x.to(kernel.dtype))), size) if ctx.needs_input_grad[1] else None
        return by_x, by_kernel


def _spectrum(signal: Float[Tensor, "rows blocks size"]) -> Complex[Tensor, "frequencies rows blocks"]:
    """Half the spectrum of every block, which is all of it for real numbers; laid out for one product a frequency."""
    return torch.fft.rfft(signal).permute(2, 0, 1).contiguous()


def _signal(spectrum: Complex[Tensor, "frequencies rows blocks"], size: int) -> Float[Tensor, "rows blocks {size}"]:
    return torch.fft.irfft(spectrum.permute(1, 2, 0).contiguous(), n=size)


@dataclass(frozen=True)
class BlockCirculant(Invariant):
    """Each block of the change is its first row, turned by one more place in every row."""

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, C3A)
        size = adapter.block_size
        blocks = (after - before).double().unfold(0, size, size).unfold(1, size, size)
        turned = blocks.roll((1, 1), (2, 3))
        return relative(blocks - turned, before, after)
