"""Measures of the singular values of a change, and of its place in the singular basis of the base.

>>> import torch
>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.measures.base import torch_svd
>>> base = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
>>> change = WeightChange("q", base, base + torch.diag(torch.tensor([1.0, 0.0, 0.0, 0.0])))
>>> energy_in_top(0.25)(Layer(change, torch_svd))
1.0
"""

from __future__ import annotations

import math
from collections.abc import Callable

from adapterlab.geometry.measures.base import Layer, Measure


def energy_in_top(k: float) -> Callable[[Layer], float]:
    """Return the measure: share of the change's squared norm between the base's top left and right singular directions.

    Args:
        k: Share of the singular directions that are the top, from 0 to 1; at least one direction.
    """

    def of(layer: Layer) -> float:
        u, s, vt = layer.of_base
        count = max(1, math.ceil(k * len(s)))
        inside = u[:, :count].T @ layer.change.delta @ vt[:count].T
        return float((inside.double() ** 2).sum() / (layer.change.delta.double() ** 2).sum())

    return of


def stable_rank(layer: Layer) -> float:
    """Return the squared Frobenius norm of the change divided by its squared spectral norm.

    Args:
        layer: The layer.
    """
    s = layer.of_delta.s.double() ** 2
    return float(s.sum() / s[0])


SPECTRUM = (
    Measure(
        "energy_in_top(0.1)",
        "Energy in the top tenth of singular directions",
        "Share of the change's squared norm between the base's top tenth of left and of right singular directions.",
        energy_in_top(0.1),
        compared=True,
    ),
    Measure(
        "stable_rank",
        "Stable rank",
        "Squared Frobenius norm of the change divided by its squared spectral norm.",
        stable_rank,
        compared=True,
    ),
)
