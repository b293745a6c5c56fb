"""Singular values of a random change, from the law of Marchenko and Pastur instead of from draws.

>>> [round(value, 3) for value in random_spectrum((64, 32), 3)]
[0.289, 0.274, 0.263]
>>> round(sum(value**2 for value in random_spectrum((64, 32), 32)), 6)
1.0
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import cumulative_simpson

_GRID = 2001


def random_spectrum(shape: tuple[int, int], length: int) -> tuple[float, ...]:
    """Return the largest singular values of a matrix with independent normal entries, divided by its Frobenius norm.

    The i-th of k singular values is the square root of the quantile `1 - (i - 1/2) / k` of the law of Marchenko and Pastur
    (1967), the limit for large matrices; beyond some dozens of rows it is within a few percent of a draw.

    Args:
        shape: `(out, in)`.
        length: Number of values, at most the smaller side.

    Returns:
        The values, the largest first. The squares of all of them add up to 1.

    Raises:
        ValueError: A side is not positive.
    """
    small, large = sorted(shape)
    if small < 1:
        raise ValueError(f"a matrix of shape {shape} has no singular values")
    ratio = small / large
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    angle = np.linspace(0, np.pi, _GRID)
    at = low + (high - low) * (1 - np.cos(angle)) / 2
    # The density sqrt((high - x)(x - low)) / (2 pi ratio x), times dx / d(angle), which cancels its steep ends.
    root = (high - low) / 2 * np.sin(angle)
    density = np.divide(root**2, at, out=np.full_like(at, high - low), where=at > 1e-12)
    below = cumulative_simpson(density, x=angle, initial=0)
    quantiles = np.interp(1 - (np.arange(small) + 0.5) / small, below / below[-1], at)
    values = np.sqrt(quantiles / quantiles.sum())
    return tuple(float(value) for value in values[:length])
