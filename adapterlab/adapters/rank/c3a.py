"""C3A: the change of a weight is a circular convolution, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Context, Linear, LinearAdapter, State, Theme, common_divisors
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.recompute import recomputed


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
        kernel = state["kernel"] * (strength * self.scale(x.shape[-1]))
        # y_k = sum_l kernel_(l - k) x_l is a correlation: conjugate the kernel's transform. Half a spectrum does for real
        # numbers, and the Fourier transform needs at least single precision.

        def spectrum(x: Tensor, kernel: Tensor) -> Tensor:
            blocks = x.to(kernel.dtype).reshape(-1, kernel.shape[1], self.block_size)
            # One product of whole matrices for each frequency, laid out so that none is copied again in the backward pass.
            signal = torch.fft.rfft(blocks).permute(2, 0, 1).contiguous()
            response = torch.fft.rfft(kernel).conj().permute(2, 1, 0).contiguous()
            return torch.bmm(signal, response).permute(1, 2, 0).contiguous()

        y = torch.fft.irfft(recomputed(spectrum, x, kernel), n=self.block_size)
        return linear(x) + y.reshape(*x.shape[:-1], -1)

    def scale(self, columns: int) -> float:
        """The factor on the circulant blocks."""
        return 1 / columns if self.scaled else 1.0


@dataclass(frozen=True)
class BlockCirculant(Invariant):
    """Each block of the change is its first row, turned by one more place in every row."""

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, C3A)
        size = adapter.block_size
        blocks = (after - before).double().unfold(0, size, size).unfold(1, size, size)
        turned = blocks.roll((1, 1), (2, 3))
        return relative(blocks - turned, before, after)
