"""FourierFT: the change of a weight is a few waves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.base import Context, LinearAdapter, State, Theme
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative


@dataclass(frozen=True)
class FourierFT(LinearAdapter):
    """`W' = W + strength * alpha * Re(ifft2(F))`, `F (out, in)` zero but for `coefficients` at chosen entries.

    `coefficients (n,)` are trained; the `entries (n,)`, positions in `F` read row by row, are drawn once and shared by
    the sites of one shape (Gao et al. 2024, equations 2 to 4). The coefficients start as normal numbers, as in the paper,
    so the model moves before it trains; with `zero_start` they start at zero.
    """

    name = "fourierft"
    title = "Fourier transform for fine-tuning"
    theme = Theme.RANK
    claim = "The change is sparse in the frequency domain: a few waves over the weight."
    paper = "https://arxiv.org/abs/2405.03003"
    size_knob = "n"

    n: int = 1000
    alpha: float = 300.0
    zero_start: bool = False

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return (SparseSpectrum(), *([IdentityAtInit()] if self.zero_start else []))

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(rows * columns for rows, columns in shapes) + 1)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        most = self.sizes(shapes)[-1]
        return (
            None
            if 1 <= self.n <= most
            else f"n {self.n} is not among the entries of the smallest layer: give 1 to {most}"
        )

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        entries = context.share(f"entries {rows}x{columns}", lambda: context.distinct(self.n, rows * columns))
        start = context.zeros(self.n) if self.zero_start else context.normal(self.n)
        return State({"coefficients": start}, {"entries": entries})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        rows, columns = weight.shape
        half = columns // 2 + 1
        j, k = state["entries"] // columns, state["entries"] % columns
        # Re(ifft2(F)) is the inverse of the Hermitian part of F, half of each entry there and half at its mirror; of such a
        # spectrum one half says all.
        value = state["coefficients"] * (strength * self.alpha / 2)
        spectrum = torch.zeros(rows * half, dtype=value.dtype.to_complex(), device=value.device)
        for row, column in ((j, k), (-j % rows, -k % columns)):
            inside = column < half
            place = torch.where(inside, row * half + column, 0)
            spectrum = spectrum.index_put((place,), (value * inside).to(spectrum.dtype), accumulate=True)
        return weight + torch.fft.irfft2(spectrum.unflatten(0, (rows, half)), s=(rows, columns))


@dataclass(frozen=True)
class SparseSpectrum(Invariant):
    """The change has no waves but those chosen."""

    def residual(self, adapter: LinearAdapter, state: State, before: Tensor, after: Tensor) -> float:
        spectrum = torch.fft.fft2((after - before).double(), norm="ortho")
        rows, columns = before.shape
        j, k = state["entries"] // columns, state["entries"] % columns
        for row, column in ((j, k), (-j % rows, -k % columns)):
            spectrum[row, column] = 0
        return relative(spectrum.abs(), before, after)
