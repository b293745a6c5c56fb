"""FourierFT: an update with a few trained Fourier coefficients.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("fourierft", n=5), torch.eye(8)
>>> state = method.init(weight, Context.of_layer(weight))
>>> state["coefficients"].shape, torch.equal(method.weight(state, weight), weight)
(torch.Size([5]), True)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.rebuild import recomputed
from adapterlab.adapters.state import State

# Costs in multiplications of a matrix product that take the same time, fitted to the times on random shapes that
# `benchmarks/fourierft_rule.py` measures.
TRANSFORMED = 100
"""Cost of an entry in a transform; memory limits the transforms, so their lengths hardly matter."""
GATHERED = 400
"""Cost of reading, multiplying and writing one entry for one input."""
MORE_CALLS = 10_000_000
"""Cost of the additional calls to torch that a layer makes if the update is applied to its inputs."""


@dataclass(frozen=True)
class FourierFT(LinearAdapter):
    """`W' = W + strength * scale * Re(ifft2(F))`, `F (out, in)` zero except for `coefficients` at random entries.

    `coefficients (n,)` are trained; `entries (n,)`, positions in `F` counted row by row, are drawn once and shared by all
    sites of the same shape (Gao et al. 2024, equations 2 to 4). `scale = alpha * size`, `size = sqrt(out * in) / width`: the
    inverse transform divides by `out * in`, so a coefficient adds a wave of the same spectral norm to layers of every shape,
    that of the paper's LLaMA layers.

    The paper starts from normal numbers, and so away from the base; `zero_start=False` does, with a standard deviation of
    `size`, which gives the weights of every layer the noise of the paper's LLaMA layers.

    Applied to an input, an entry maps one wave of the input to one wave of the output. This takes two one-dimensional
    transforms for each input instead of a two-dimensional transform for the weight, and needs no gradient of the weight.
    """

    name = "fourierft"
    title = "Fourier transform for fine-tuning"
    theme = Theme.RANK
    claim = "The change is sparse in the frequency domain: a sum of a few waves over the weight matrix."
    paper = "https://arxiv.org/abs/2405.03003"
    size_knob = "n"
    peft_kinds = ("FOURIERFT",)

    n: int = 1000
    """Number of trained coefficients in each layer."""
    alpha: float = 300.0
    """Factor on the update of a square layer of the given `width`."""
    width: int = 4096
    """Width of the layers for which `alpha` is meant; 0 for a factor of `alpha` on layers of any shape, as in PEFT."""
    zero_start: bool = True
    """True to start the coefficients at zero, False to start them as normal numbers."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return (SparseSpectrum(), *([IdentityAtInit()] if self.zero_start else []))

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, min(rows * columns for rows, columns in shapes) + 1)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        most = self.sizes(shapes)[-1]
        if 1 <= self.n <= most:
            return None
        return f"n {self.n} does not fit the smallest layer, which has {most} entries: give 1 to {most}"

    def scale(self, rows: int, columns: int) -> float:
        """Return the factor on the inverse transform.

        Args:
            rows: Number of output features.
            columns: Number of input features.
        """
        return self.alpha * self.size(rows, columns)

    def size(self, rows: int, columns: int) -> float:
        """Return the size of a layer relative to those for which `alpha` is meant.

        Args:
            rows: Number of output features.
            columns: Number of input features.
        """
        return math.sqrt(rows * columns) / self.width if self.width else 1.0

    @classmethod
    def from_peft(cls, source: PeftSource) -> FourierFT | None:
        settings = source.settings
        settings.only_at_start("init_weights")
        alpha = settings.number("scaling", 150.0)
        return cls(n=settings.whole("n_frequency", 1000), alpha=alpha, width=0)

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        # The file has no entries: PEFT draws them again, from a seed that is the same in all layers.
        generator = torch.Generator().manual_seed(site.settings.whole("random_loc_seed", 777))
        entries, order = torch.randperm(site.base.numel(), generator=generator)[: self.n].sort()
        coefficients = site.take("fourierft_spectrum")
        if len(coefficients) != self.n:
            raise CannotLoadError(
                f"n_frequency={self.n}, but {site.path} has {len(coefficients)}; here all have as many"
            )
        return {"entries": entries, "coefficients": coefficients[order.to(coefficients.device)]}

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        entries = context.share(f"entries {rows}x{columns}", lambda: context.distinct(self.n, rows * columns))
        start = context.zeros(self.n) if self.zero_start else context.normal(self.n, std=self.size(rows, columns))
        return State({"coefficients": start}, {"entries": entries})

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        rows, columns = weight.shape
        half = columns // 2 + 1
        j, k = state["entries"] // columns, state["entries"] % columns
        # Re(ifft2(F)) is the inverse transform of the Hermitian part of F, which has half of each entry there and half at
        # the mirrored entry. One half of such a spectrum determines the other.
        value = state["coefficients"] * (strength * self.scale(rows, columns) / 2)
        # `dtype.to_complex()` breaks the graph of torch.compile.
        complex_dtype = torch.complex(value[:0], value[:0]).dtype
        spectrum = torch.zeros(rows * half, dtype=complex_dtype, device=value.device)
        for row, column in ((j, k), (-j % rows, -k % columns)):
            inside = column < half
            place = torch.where(inside, row * half + column, 0)
            spectrum = spectrum.index_put((place,), (value * inside).to(spectrum.dtype), accumulate=True)
        update: Tensor = torch.fft.irfft2(torch.unflatten(spectrum, 0, (rows, half)), s=(rows, columns))
        return weight + update

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        rows, columns = linear.weight.shape
        each = TRANSFORMED * (rows + columns) + GATHERED * self.n
        once = TRANSFORMED * rows * columns - MORE_CALLS
        if not self.on_input(x, linear.weight, each, once):
            return super().forward(state, x, linear, strength)
        coefficients = state["coefficients"]
        j, k = state["entries"] // columns, state["entries"] % columns
        # Entry (j, k) maps wave k of the input to wave j of the output. Half a spectrum has each wave or its mirror image,
        # which is the complex conjugate.
        read, written = torch.minimum(k, columns - k), torch.minimum(j, rows - j)
        own_mirror = (written == 0) | (2 * written == rows)
        real = torch.where(own_mirror, 1.0, 0.5).to(coefficients.dtype) * (
            strength * self.scale(rows, columns) / columns
        )
        imaginary = torch.where((2 * k <= columns) == (2 * j <= rows), -real, real)
        spectrum = recomputed(partial(_output_spectrum, rows // 2 + 1), x, coefficients, read, written, real, imaginary)
        update: Tensor = torch.fft.irfft(spectrum.mT, n=rows)
        return linear(x) + update.reshape(*x.shape[:-1], rows)


def _output_spectrum(
    half: int,
    x: Float[Tensor, "*batch in"],
    coefficients: Float[Tensor, " n"],
    read: Int[Tensor, " n"],
    written: Int[Tensor, " n"],
    real: Float[Tensor, " n"],
    imaginary: Float[Tensor, " n"],
) -> Complex[Tensor, "waves inputs"]:
    """Return half the spectrum of the outputs, `half` waves: the waves that are read, times `coefficients` and a factor."""
    spectrum: Tensor = torch.fft.rfft(x.flatten(0, -2).to(coefficients.dtype))
    chosen = spectrum.mT.contiguous().index_select(0, read)
    waves = torch.complex(
        chosen.real * (coefficients * real)[:, None], chosen.imag * (coefficients * imaginary)[:, None]
    )
    return waves.new_zeros(half, waves.shape[1]).index_add(0, written, waves)


@dataclass(frozen=True)
class SparseSpectrum(Invariant):
    """The change has no Fourier coefficients other than the trained ones."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        spectrum = torch.fft.fft2((after - before).double(), norm="ortho")
        rows, columns = before.shape
        j, k = state["entries"] // columns, state["entries"] % columns
        for row, column in ((j, k), (-j % rows, -k % columns)):
            spectrum[row, column] = 0
        return relative(spectrum.abs(), before, after)
