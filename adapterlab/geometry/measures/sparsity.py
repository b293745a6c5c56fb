"""Sparsity of a change.

>>> import torch
>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.measures.base import torch_svd
>>> delta = torch.zeros(4, 5)
>>> delta[0, 0] = 3.0
>>> layer = Layer(WeightChange("q", torch.zeros(4, 5), delta), torch_svd)
>>> entries_for_energy(0.9)(layer), hoyer_sparsity(layer)
(0.05, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from adapterlab.geometry.measures.base import Family, Layer, Measure, is_share, no_directions


def entries_for_energy(share: float) -> Callable[[Layer], float]:
    """Return the measure: smallest share of the entries that holds a share of the change's squared norm.

    Args:
        share: Share of the squared norm, above 0 and at most 1.
    """

    def of(layer: Layer) -> float:
        size = np.sort(np.abs(layer.change.delta.numpy(force=True)), axis=None)[::-1]
        held = np.cumsum(np.square(size, dtype=np.float64))
        return (int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) + 1) / len(size)

    return of


def hoyer_sparsity(layer: Layer) -> float:
    """Return Hoyer's sparsity of the `n` entries `x`: 0 if all are of one size, 1 if only one is not zero.

    `(sqrt(n) - |x|_1 / |x|_2) / (sqrt(n) - 1)`.

    Source: Hoyer 2004, "Non-negative matrix factorization with sparseness constraints", section 3.1.

    Args:
        layer: The layer; of a single entry the sparsity is 1.
    """
    delta = layer.change.delta.double()
    root = math.sqrt(delta.numel())
    if root == 1:
        return 1.0
    return (root - float(delta.abs().sum()) / layer.change.norm) / (root - 1)


def _entries(share: float) -> Measure:
    return Measure(
        f"entries_for_energy({share:g})",
        f"Entries that hold {100 * share:g} % of the energy",
        f"Smallest share of the entries of the change that holds {100 * share:g} % of its squared norm.",
        entries_for_energy(share),
        compared=True,
        of_shape=True,
        directions=no_directions,
    )


ENTRIES = Family("entries_for_energy", "a share of the squared norm, above 0 and at most 1", is_share, _entries)
FAMILIES = (ENTRIES,)
SPARSITY = (
    ENTRIES(0.9),
    Measure(
        "hoyer_sparsity",
        "Hoyer's sparsity",
        "Sparsity of the entries of the change, from 0 (all of one size) to 1 (one entry) (Hoyer 2004).",
        hoyer_sparsity,
        compared=True,
        of_shape=True,
        directions=no_directions,
    ),
)
