"""Fourier: a sum of a few cosine waves over the weight matrix.

>>> import torch
>>> wave = torch.cos(2 * torch.pi * (torch.arange(4)[:, None] / 4 + torch.arange(6) / 6))
>>> change = WeightChange("q", torch.zeros(4, 6), 2 * wave)
>>> [nearest] = Fourier().project([change], 1, Setting())
>>> torch.allclose(nearest.weight, change.tuned, atol=1e-6)
True
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapterlab.adapters.linear import in_sixteenths
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.hypotheses.base import LayerHypothesis, Nearest, Setting


class Fourier(LayerHypothesis):
    """`W' = W + Re(ifft2(F))`, `F` real and zero but for `n` entries; the size is `n`.

    An entry `(p, q)` adds the wave `cos(2 pi (p i / out + q j / in))`, as does the entry `(-p, -q)`. The waves are
    orthogonal, so the nearest change keeps the `n` of largest energy in the real part of the spectrum of the change. The
    positions are chosen here and not counted; `fourierft` draws them at random (Gao et al. 2024, equations 2 to 4), so the
    residual is a lower bound of what it can reach.
    """

    name = "fourier"
    title = "Fourier"
    statement = "The change is sparse in the frequency domain: a sum of a few waves over the weight matrix."
    adapters = ("fourierft",)
    exact = True

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        most = min(rows * columns for rows, columns in shapes)
        return [size for size in in_sixteenths(1, most) if size < most] + [most]

    def fits(self, size: int, shape: tuple[int, int]) -> bool:
        return 1 <= size <= shape[0] * shape[1]

    def count(self, size: int, shape: tuple[int, int]) -> int:
        return size

    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        rows, columns = change.shape
        spectrum = torch.fft.rfft2(change.delta).real
        energy = spectrum.square()
        edges = [0] if columns % 2 else [0, columns // 2]  # columns of the spectrum that are their own mirror image
        for column in edges:
            energy[rows // 2 + 1 :, column] = -1.0
            for row in [0] if rows % 2 else [0, rows // 2]:
                energy[row, column] /= 2
        chosen = energy.flatten().topk(min(size, int((energy >= 0).sum()))).indices
        kept = torch.zeros_like(spectrum).flatten().index_copy(0, chosen, spectrum.flatten()[chosen])
        kept = kept.view_as(spectrum)
        for column in edges:
            mirrored = kept[1 : (rows + 1) // 2, column].flip(0)
            kept[rows // 2 + 1 :, column] = mirrored
        wave: torch.Tensor = torch.fft.irfft2(kept.to(spectrum.dtype.to_complex()), s=(rows, columns))
        return Nearest(change.base + wave)
