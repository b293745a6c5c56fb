"""Direction against magnitude: the analysis of DoRA (Liu et al. 2024, section 3.2).

The magnitude of a neuron is the norm of its row, and its direction is the row divided by it. The paper's equations take
the columns of `W0 (d, k)`, and its authors' code takes the rows of `nn.Linear.weight (out, in)`, one for each neuron. Both
are measured here: rows by default, columns under names that say so.

>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.measures.base import torch_svd
>>> base = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
>>> layer = Layer(WeightChange("q", base, base * torch.tensor([[2.0], [1.0]])), torch_svd)
>>> magnitude_change(layer), direction_change(layer)
(2.5, 0.0)
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import torch
from scipy import stats

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.measures.base import Layer, Measure, no_directions
from adapterlab.geometry.result import LayerGeometry

Of: TypeAlias = Literal["rows", "columns"]
"""Vectors whose magnitude and direction are compared."""


class Trend(NamedTuple):
    """Regression of the magnitude change on the direction change, with a point for each layer (and training step)."""

    slope: float
    """Slope of the regression line."""
    correlation: float
    """Pearson's correlation: -0.62 for full fine-tuning, 0.83 for LoRA and -0.31 for DoRA in the paper (section 4.1)."""
    points: int
    """Number of points."""


def magnitude_change(layer: Layer, of: Of = "rows") -> float:
    """Return the mean over vectors of `| |w'| - |w| |`, DoRA's `dM` (Liu et al. 2024, equation 3), in the weight's unit.

    Args:
        layer: The layer.
        of: Vectors to compare.
    """
    dim = 1 if of == "rows" else 0
    before, after = layer.change.base.double(), layer.change.tuned.double()
    sizes = (torch.linalg.vector_norm(weight, dim=dim) for weight in (after, before))
    return float((next(sizes) - next(sizes)).abs().mean())


def direction_change(layer: Layer, of: Of = "rows") -> float:
    """Return the mean over vectors of `1 - cos(w', w)`, DoRA's `dD` (Liu et al. 2024, equation 4), from 0 to 2.

    A vector that is zero both before and after counts 0, one that is zero in one of them 1.

    Args:
        layer: The layer.
        of: Vectors to compare.
    """
    dim = 1 if of == "rows" else 0
    before, after = (
        torch.nn.functional.normalize(w.double(), dim=dim) for w in (layer.change.base, layer.change.tuned)
    )
    lengths = before.square().sum(dim) + after.square().sum(dim)
    # |a - b|^2 / 2 = 1 - cos for unit vectors, without the cancellation at small angles.
    difference = (after - before).square().sum(dim) / 2
    return float(torch.where(lengths.round() == 1, 1.0, difference).mean())


def direction_against_magnitude(layers: Iterable[LayerGeometry], role: str | None = "query", of: Of = "rows") -> Trend:
    """Return the trend of DoRA's figure 2: magnitude change against direction change over layers.

    Args:
        layers: Measured layers of one change, or of several training steps of one run, with `magnitude_change` and
            `direction_change` among their measures.
        role: Role of the layers to take (`query` in figure 2, `value` in figure 7); None for all.
        of: Vectors that were compared.

    Raises:
        AdapterlabError: There are fewer than three points, or their direction changes are all equal.
    """
    ending = "" if of == "rows" else "_of_columns"
    points = [
        (layer.measures[f"direction_change{ending}"], layer.measures[f"magnitude_change{ending}"])
        for layer in layers
        if role is None or layer.role == role
    ]
    if len({x for x, _ in points}) < 2 or len(points) < 3:
        found = f"{len(points)} {role or 'changed'} layers"
        raise AdapterlabError(
            f"direction against magnitude needs three layers with different changes, and there are {found}: measure more "
            "layers or training steps, or give another role"
        )
    line = stats.linregress([x for x, _ in points], [y for _, y in points])
    return Trend(float(line.slope), float(line.rvalue), len(points))


def _measures(of: Of) -> tuple[Measure, Measure]:
    ending, vectors = ("", "neurons (rows)") if of == "rows" else ("_of_columns", "columns")
    return (
        Measure(
            f"magnitude_change{ending}",
            f"Magnitude change of {vectors}",
            f"Mean over {vectors} of the absolute change of the norm, in the weight's unit (Liu et al. 2024, equation 3).",
            partial(magnitude_change, of=of),
            directions=no_directions,
        ),
        Measure(
            f"direction_change{ending}",
            f"Direction change of {vectors}",
            f"Mean over {vectors} of one minus the cosine between before and after (Liu et al. 2024, equation 4).",
            partial(direction_change, of=of),
            directions=no_directions,
        ),
    )


DIRECTION = (*_measures("rows"), *_measures("columns"))
