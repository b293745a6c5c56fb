"""FourierFT: the change of a weight is a few waves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.rebuild import recomputed
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class FourierFT(LinearAdapter):
    """`W' = W + strength * alpha * Re(ifft2(F))`, `F (out, in)` zero but for `coefficients` at chosen entries.

    `coefficients (n,)` are trained; the `entries (n,)`, positions in `F` read row by row, are drawn once and shared by
    the sites of one shape (Gao et al. 2024, equations 2 to 4). The coefficients start as normal numbers, as in the paper,
    so the model moves before it trains; with `zero_start` they start at zero.

    Applied to an input, an entry takes one wave of it to one wave of the answer: two transforms of one dimension for each
    input in place of one of two dimensions for the weight, and no gradient of the weight.
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

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        rows, columns = linear.weight.shape
        # A transform of n real numbers takes about 1.25 n log2(n) multiplications and additions.
        each = int(1.25 * (rows * math.log2(rows) + columns * math.log2(columns)))
        once = int(1.25 * rows * columns * math.log2(rows * columns))
        if not self.on_input(x, linear.weight, each, once):
            return super().forward(state, x, linear, strength)
        coefficients = state["coefficients"]
        j, k = state["entries"] // columns, state["entries"] % columns
        # Entry (j, k) hears wave k of the input and answers with wave j. Of both, half a spectrum has one or its mirror:
        # the conjugate.
        heard, answered = torch.minimum(k, columns - k), torch.minimum(j, rows - j)
        alone = (answered == 0) | (2 * answered == rows)  # its own mirror
        real = torch.where(alone, 1.0, 0.5).to(coefficients.dtype) * (strength * self.alpha / columns)
        imaginary = torch.where((2 * k <= columns) == (2 * j <= rows), -real, real)
        spectrum = recomputed(partial(_answer, rows // 2 + 1), x, coefficients, heard, answered, real, imaginary)
        return linear(x) + torch.fft.irfft(spectrum.mT, n=rows).reshape(*x.shape[:-1], rows)


def _answer(
    half: int,
    x: Float[Tensor, "*batch in"],
    coefficients: Float[Tensor, " n"],
    heard: Int[Tensor, " n"],
    answered: Int[Tensor, " n"],
    real: Float[Tensor, " n"],
    imaginary: Float[Tensor, " n"],
) -> Complex[Tensor, "waves inputs"]:
    """Half the spectrum of the answers: the waves that are heard, times the coefficients and the factors on both parts."""
    spectrum = torch.fft.rfft(x.flatten(0, -2).to(coefficients.dtype)).mT.contiguous()
    chosen = spectrum.index_select(0, heard)
    waves = torch.complex(
        chosen.real * (coefficients * real)[:, None], chosen.imag * (coefficients * imaginary)[:, None]
    )
    return waves.new_zeros(half, waves.shape[1]).index_add(0, answered, waves)


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
