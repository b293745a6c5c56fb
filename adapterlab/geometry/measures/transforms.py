"""Concentration of a change in Fourier, circulant and Kronecker form.

>>> import torch
>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.measures.base import torch_svd
>>> delta = torch.kron(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, -1.0], [0.0, 2.0]]))
>>> round(kronecker_concentration(Layer(WeightChange("q", torch.zeros(4, 4), delta), torch_svd)), 6)
1.0
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd, isqrt

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import svds
from torch import Tensor

from adapterlab.geometry.measures.base import Family, Layer, Measure, count_of, is_share, no_directions

SMALL = 64
"""Shorter side of a matrix up to which its largest singular value is found by a full decomposition."""
TOLERANCE = 1e-4
"""Relative residual of a singular vector found by Lanczos iteration; the relative error of its energy is at most this."""


def fourier_concentration(share: float) -> Callable[[Layer], float]:
    """Return the measure: share of the energy in the largest coefficients of the two-dimensional discrete Fourier transform.

    FourierFT trains a few coefficients of this transform (Gao et al. 2024, equations 2 to 4).

    Args:
        share: Share of the `out * in` coefficients that are kept, above 0 and at most 1; at least one.
    """

    def of(layer: Layer) -> float:
        columns = layer.change.shape[1]
        half = torch.fft.rfft2(layer.change.delta, norm="ortho").abs().square().numpy(force=True)
        mirrored = half[:, 1 : (columns + 1) // 2]  # coefficients whose conjugate `rfft2` leaves out
        energy = np.concatenate([half.ravel(), mirrored.ravel()])
        count = count_of(share, len(energy))
        top = np.partition(energy, len(energy) - count)[len(energy) - count :]
        return float(top.sum(dtype=np.float64) / energy.sum(dtype=np.float64))

    return of


def nearest_circulant(delta: Float[Tensor, "out in"], size: int) -> Float[Tensor, "out in"]:
    """Return the nearest matrix whose `size x size` blocks are circulant: means along the wrapped diagonals of each block.

    Each row of a block is the row above it, shifted right by one place, as in C3A (Chen et al. 2025, section 3.2).

    Args:
        delta: The matrix.
        size: Rows and columns of a block, a divisor of both sides.
    """
    rows, columns = delta.shape
    k = torch.arange(size, device=delta.device)
    blocks = delta.reshape(rows // size, size, columns // size, size).transpose(1, 2)
    kernel = blocks.gather(3, ((k[:, None] + k) % size).expand(blocks.shape)).mean(2)
    return kernel[..., (k - k[:, None]) % size].transpose(1, 2).reshape(rows, columns)


def circulant_concentration(layer: Layer) -> float:
    """Return the share of the energy in the nearest change with circulant blocks of the largest size that fits.

    Args:
        layer: The layer.
    """
    nearest = nearest_circulant(layer.change.delta, gcd(*layer.change.shape))
    return float(nearest.double().square().sum()) / layer.energy


def rearranged(delta: Float[Tensor, "out in"]) -> Float[Tensor, "small large"]:
    """Return the matrix whose rank-one approximations are Kronecker products that approximate the given one.

    The first factor is `(out1, in1)`, with the largest divisors of the sides that are at most their square roots, as LoKr
    factors them. A row holds one block `(out / out1, in / in1)`.

    Source: Van Loan and Pitsianis 1993, "Approximation with Kronecker products", section 2.

    Args:
        delta: The matrix.
    """
    rows, columns = delta.shape
    first, second = (max(d for d in range(1, isqrt(side) + 1) if side % d == 0) for side in (rows, columns))
    blocks = delta.reshape(first, rows // first, second, columns // second).transpose(1, 2)
    return blocks.reshape(first * second, -1)


def kronecker_concentration(layer: Layer) -> float:
    """Return the share of the energy in the nearest Kronecker product of two factors, those of `rearranged`.

    Args:
        layer: The layer.
    """
    matrix = rearranged(layer.change.delta)
    if min(matrix.shape) <= SMALL:
        largest = float(torch.linalg.matrix_norm(matrix.double(), 2))
    else:
        start = np.random.default_rng(0).normal(size=min(matrix.shape))
        plain = matrix.double().numpy(force=True)
        largest = float(svds(plain, k=1, v0=start, tol=TOLERANCE, return_singular_vectors=False)[0])
    return min(1.0, largest**2 / layer.energy)


def _fourier(share: float) -> Measure:
    return Measure(
        f"fourier_concentration({share:g})",
        f"Energy in the top {100 * share:g} % of Fourier coefficients",
        f"Share of the change's squared norm in the largest {100 * share:g} % of the coefficients of its two-dimensional "
        "discrete Fourier transform (Gao et al. 2024).",
        fourier_concentration(share),
        compared=True,
        of_shape=True,
        directions=no_directions,
    )


FOURIER = Family("fourier_concentration", "the share of the coefficients, above 0 and at most 1", is_share, _fourier)
FAMILIES = (FOURIER,)
TRANSFORMS = (
    FOURIER(0.01),
    Measure(
        "circulant_concentration",
        "Energy in circulant blocks",
        "Share of the change's squared norm in the nearest change with circulant blocks, of the largest size that divides "
        "both sides (Chen et al. 2025).",
        circulant_concentration,
        compared=True,
        of_shape=True,
        directions=no_directions,
    ),
    Measure(
        "kronecker_concentration",
        "Energy in a Kronecker product",
        "Share of the change's squared norm in the nearest Kronecker product of two factors, each side split near its "
        "square root (Van Loan and Pitsianis 1993).",
        kronecker_concentration,
        compared=True,
        of_shape=True,
        directions=no_directions,
    ),
)
