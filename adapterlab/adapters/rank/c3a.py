"""C3A: an update whose blocks are circulant matrices, which is a circular convolution of the input.

>>> from adapterlab.adapters import State, adapter
>>> state = State({"kernel": torch.tensor([[[1.0, 2.0, 3.0]]])})
>>> adapter("c3a", block_size=3).weight(state, torch.zeros(3, 3))
tensor([[1., 2., 3.],
        [3., 1., 2.],
        [2., 3., 1.]])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import Linear, LinearAdapter, common_divisors
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource
from adapterlab.adapters.rebuild import Saved
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class C3A(LinearAdapter):
    """`W' = W + strength * C(kernel)`: each `size x size` block of `C` is circulant, with a kernel as its first row.

    `kernel (out / size, in / size, size)` starts at zero, with `size = block_size`; row `k` of a block is its first row
    shifted right by `k` places (Chen et al. 2025, sections 3.2 and 3.4, equation 4). Applied to an input, a block is a
    product in the frequency domain (equation 1).
    """

    name = "c3a"
    title = "Circular convolution adaptation"
    theme = Theme.RANK
    claim = "The change is a circular convolution: it has full rank, and acts in the same way at every position."
    paper = "https://arxiv.org/abs/2407.19342"
    size_knob = "block_size"
    peft_kinds = ("C3A",)
    peft_names: ClassVar[Mapping[str, str]] = {"c3a_kernel": "kernel"}

    block_size: int = 256
    """Rows and columns of a block, a divisor of every side of the layers."""
    scaled: bool = False
    """True to divide the update by `in`, as PEFT does and the paper does not."""

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
        correlate: Callable[[Tensor, Tensor], Tensor] = _Correlation.apply
        return linear(x) + correlate(blocks, kernel).reshape(*x.shape[:-1], -1)

    def scale(self, columns: int) -> float:
        """Return the factor on the circulant blocks.

        Args:
            columns: Number of input features.
        """
        return 1 / columns if self.scaled else 1.0

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        def kernel(site: PeftSite) -> dict[str, Tensor]:
            columns = site.base.shape[1]
            return {"c3a_kernel": site.state["kernel"] * (self.scale(columns) * columns)}  # PEFT divides by `in`

        return per_site({"peft_type": "C3A", "block_size": self.block_size}, sites, kernel)

    @classmethod
    def from_peft(cls, source: PeftSource) -> C3A | None:
        settings = source.settings
        settings.only_at_start("init_weights")
        return cls(block_size=settings.whole("block_size", 256), scaled=True)


class _Correlation(torch.autograd.Function):
    """`y_k = sum_l kernel_(l - k) x_l` in every pair of blocks, summed over the blocks of `x (inputs, blocks, size)`.

    The backward pass recomputes the Fourier transforms, so they are not kept.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, kernel: Tensor) -> Tensor:
        return _signal(torch.bmm(_spectrum(x.to(kernel.dtype)), _spectrum(kernel).mH), kernel.shape[-1])

    @staticmethod
    def setup_context(ctx: Saved, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Saved, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        size, g = kernel.shape[-1], _spectrum(gradients[0])
        by_x = _signal(torch.bmm(g, _spectrum(kernel)), size).to(x.dtype) if ctx.needs_input_grad[0] else None
        by_kernel = _signal(torch.bmm(g.mH, _spectrum(x.to(kernel.dtype))), size) if ctx.needs_input_grad[1] else None
        return by_x, by_kernel


def _spectrum(signal: Float[Tensor, "rows blocks size"]) -> Complex[Tensor, "frequencies rows blocks"]:
    """Return half the spectrum of every block, which determines the other half, laid out for one product per frequency."""
    spectrum: Tensor = torch.fft.rfft(signal)
    return spectrum.permute(2, 0, 1).contiguous()


def _signal(spectrum: Complex[Tensor, "frequencies rows blocks"], size: int) -> Float[Tensor, "rows blocks {size}"]:
    signal: Tensor = torch.fft.irfft(spectrum.permute(1, 2, 0).contiguous(), n=size)
    return signal


@dataclass(frozen=True)
class BlockCirculant(Invariant):
    """Each row of a block of the change is the row above it, shifted by one place."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, C3A)
        size = adapter.block_size
        blocks = (after - before).double().unfold(0, size, size).unfold(1, size, size)
        turned = blocks.roll((1, 1), (2, 3))
        return relative(blocks - turned, before, after)
