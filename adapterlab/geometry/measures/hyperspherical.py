"""Hyperspherical energy of a layer's neurons, before and after a change.

>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.measures.base import torch_svd
>>> turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
>>> base = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
>>> abs(hyperspherical_change(Layer(WeightChange("q", base, base @ turn), torch_svd))) < 1e-6
True
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.geometry.measures.base import Layer, Measure, no_directions

MOST_NEURONS = 512
"""Neurons whose pairs are summed; of a larger layer, this many at equal distances."""
LEAST_DISTANCE = 1e-3
"""Smallest distance that two neurons count with, so that equal ones do not make the energy infinite."""


def hyperspherical_energy(weight: Float[Tensor, "neurons in"]) -> float:
    """Return the mean over pairs of neurons of one over the distance of their directions.

    `|w_i / |w_i| - w_j / |w_j||^-1`, averaged over `i < j` (Liu et al. 2018 with s = 1; Qiu et al. 2023,
    section 3). Neurons of zero are left out.

    Args:
        weight: A row for each neuron, in any scale.

    Returns:
        The mean; 0 for fewer than two neurons.
    """
    size = torch.linalg.vector_norm(weight, dim=1)
    unit = weight[size > 0] / size[size > 0, None]
    count = len(unit)
    if count < 2:
        return 0.0
    squared = (unit @ unit.T).mul_(-2).add_(2).clamp_(min=LEAST_DISTANCE**2)
    squared.fill_diagonal_(torch.inf)
    return float(squared.rsqrt_().sum(dtype=torch.float64)) / (count * (count - 1))


def hyperspherical_change(layer: Layer) -> float:
    """Return the hyperspherical energy after the change divided by that before, minus one.

    Args:
        layer: The layer. Of more than `MOST_NEURONS` neurons, this many at equal distances are compared; fewer than two have
            no energy, and so no change.
    """
    rows = layer.change.shape[0]
    chosen = torch.linspace(0, rows - 1, MOST_NEURONS).round().long() if rows > MOST_NEURONS else torch.arange(rows)
    before, after = layer.change.base[chosen], layer.change.base[chosen] + layer.change.delta[chosen]
    energy = layer.once("hyperspherical_energy", lambda: hyperspherical_energy(before))
    return hyperspherical_energy(after) / energy - 1 if energy else 0.0


HYPERSPHERICAL = (
    Measure(
        "hyperspherical_energy",
        "Hyperspherical energy",
        "Relative change of the mean over pairs of neurons (rows) of one over the distance of their directions (Liu et al. "
        f"2018; Qiu et al. 2023), over at most {MOST_NEURONS} neurons: zero for a rotation of the input.",
        hyperspherical_change,
        compared=True,
        directions=no_directions,
    ),
)
