"""Principal angles between the top singular subspaces of a change and of the base.

>>> import torch
>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.measures.base import torch_svd
>>> base = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
>>> change = WeightChange("q", base, base + torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0])))
>>> round(mean_angle(1, "left")(Layer(change, torch_svd)))
90
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from scipy.linalg import subspace_angles

from adapterlab.geometry.measures.base import Family, Layer, Measure, is_count
from adapterlab.geometry.measures.spectrum import numerical_rank

Side: TypeAlias = Literal["left", "right"]
"""Directions of the output (`left`) or of the input (`right`)."""


def principal_angles(layer: Layer, k: int, side: Side) -> Sequence[float]:
    """Return the principal angles between the top singular subspaces of the change and of the base, in degrees.

    Args:
        layer: The layer.
        k: Directions of each subspace; fewer if the change has a smaller numerical rank, since further ones are arbitrary.
        side: Side of the singular vectors.

    Returns:
        `k` angles from 0 to 90, the largest first.
    """
    key = principal_angles, k, side
    if key not in layer.memo:
        count = min(k, max(1, numerical_rank(layer)))
        first, second = (
            (f.u[:, :count] if side == "left" else f.vt[:count].T).double().numpy(force=True)
            for f in (layer.of_delta, layer.of_base)
        )
        layer.memo[key] = np.degrees(subspace_angles(first, second)).tolist()
    found: list[float] = layer.memo[key]
    return found


def smallest_angle(k: int, side: Side) -> Callable[[Layer], float]:
    """Return the measure: smallest principal angle of `principal_angles`, in degrees.

    Args:
        k: Directions of each subspace.
        side: Side of the singular vectors.
    """

    def of(layer: Layer) -> float:
        return principal_angles(layer, k, side)[-1]

    return of


def mean_angle(k: int, side: Side) -> Callable[[Layer], float]:
    """Return the measure: mean of `principal_angles`, in degrees.

    Args:
        k: Directions of each subspace.
        side: Side of the singular vectors.
    """

    def of(layer: Layer) -> float:
        return float(np.mean(principal_angles(layer, k, side)))

    return of


def _family(kind: str, of: Callable[[int, Side], Callable[[Layer], float]], side: Side) -> Family:
    def build(k: float) -> Measure:
        count = int(k)
        return Measure(
            f"{kind}_angle_{side}({count})",
            f"{kind.capitalize()} angle to the base's top {count}, {side}",
            f"{kind.capitalize()} principal angle, in degrees, between the top {count} {side} singular directions of the "
            "change and of the base (Björck and Golub 1973).",
            of(count, side),
            compared=True,
            of_shape=True,
            directions=lambda length: min(count, length),
        )

    return Family(
        f"{kind}_angle_{side}", "the number of singular directions, a whole number from 1 on", is_count, build
    )


SMALLEST_LEFT = _family("smallest", smallest_angle, "left")
SMALLEST_RIGHT = _family("smallest", smallest_angle, "right")
MEAN_LEFT = _family("mean", mean_angle, "left")
MEAN_RIGHT = _family("mean", mean_angle, "right")
FAMILIES = (SMALLEST_LEFT, SMALLEST_RIGHT, MEAN_LEFT, MEAN_RIGHT)
ANGLES = (MEAN_LEFT(8.0), MEAN_RIGHT(8.0), SMALLEST_LEFT(8.0), SMALLEST_RIGHT(8.0))
