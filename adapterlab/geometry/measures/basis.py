"""Measures of the place of a change in the singular basis of the base.

>>> import torch
>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.measures.base import torch_svd
>>> base = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
>>> change = WeightChange("q", base, base + torch.diag(torch.tensor([1.0, 0.0, 0.0, 0.0])))
>>> energy_in_top(0.25)(Layer(change, torch_svd))
1.0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from adapterlab.geometry.measures.base import Family, Layer, Measure, count_of, is_share


def energy_in_top(k: float) -> Callable[[Layer], float]:
    """Return the measure: share of the change's squared norm between the base's top left and right singular directions.

    Args:
        k: Share of the singular directions that are the top, above 0 and at most 1; at least one direction.
    """

    def of(layer: Layer) -> float:
        return _energy(_top_block(layer, k)) / layer.energy

    return of


def energy_in_side(k: float, side: Literal["left", "right"]) -> Callable[[Layer], float]:
    """Return the measure: share of the change's squared norm in the span of the base's top singular directions of a side.

    Args:
        k: Share of the singular directions that are the top, above 0 and at most 1; at least one direction.
        side: `left` for the directions of the output, `right` for those of the input.
    """

    def of(layer: Layer) -> float:
        u, _, vt = layer.of_base
        count = count_of(k, min(layer.change.shape))
        delta = layer.change.delta
        return _energy(u[:, :count].T @ delta if side == "left" else delta @ vt[:count].T) / layer.energy

    return of


def energy_on_diagonal(k: float) -> Callable[[Layer], float]:
    """Return the measure: share of the change's squared norm on the diagonal of `U^T dW V`, in the top block.

    A change on the diagonal scales singular values and keeps the singular vectors.

    Args:
        k: Share of the singular directions that are the top, above 0 and at most 1; at least one direction.
    """

    def of(layer: Layer) -> float:
        return _energy(_top_block(layer, k).diagonal()) / layer.energy

    return of


def energy_off_diagonal(k: float) -> Callable[[Layer], float]:
    """Return the measure: share of the change's squared norm off the diagonal of `U^T dW V`, in the top block.

    Args:
        k: Share of the singular directions that are the top, above 0 and at most 1; at least one direction.
    """

    def of(layer: Layer) -> float:
        block = _top_block(layer, k)
        return (_energy(block) - _energy(block.diagonal())) / layer.energy

    return of


def _top_block(layer: Layer, k: float) -> Tensor:
    count = count_of(k, min(layer.change.shape))
    return layer.coupling[:count, :count]


def _energy(part: Tensor) -> float:
    return float(part.double().square().sum())


def _family(name: str, title: str, explanation: str, of: Callable[[float], Callable[[Layer], float]]) -> Family:
    def build(k: float) -> Measure:
        top = "all singular directions" if k == 1 else f"the top {100 * k:g} % of singular directions"
        return Measure(
            f"{name}({k:g})",
            title.format(top=top),
            explanation.format(top=top),
            of(k),
            compared=True,
            of_shape=True,
            directions=lambda length: count_of(k, length),
        )

    return Family(name, "the share of the singular directions that are the top, above 0 and at most 1", is_share, build)


ENERGY_IN_TOP = _family(
    "energy_in_top",
    "Energy in {top}",
    "Share of the change's squared norm between {top} of the base, left and right.",
    energy_in_top,
)
ENERGY_IN_LEFT = _family(
    "energy_in_left",
    "Energy in {top}, left",
    "Share of the change's squared norm in the span of {top} of the base's output.",
    lambda k: energy_in_side(k, "left"),
)
ENERGY_IN_RIGHT = _family(
    "energy_in_right",
    "Energy in {top}, right",
    "Share of the change's squared norm in the span of {top} of the base's input.",
    lambda k: energy_in_side(k, "right"),
)
ENERGY_ON_DIAGONAL = _family(
    "energy_on_diagonal",
    "Energy on the diagonal of {top}",
    "Share of the change's squared norm on the diagonal of U^T dW V in {top} of the base: singular values that are scaled.",
    energy_on_diagonal,
)
ENERGY_OFF_DIAGONAL = _family(
    "energy_off_diagonal",
    "Energy off the diagonal of {top}",
    "Share of the change's squared norm off the diagonal of U^T dW V in {top} of the base: singular vectors that turn.",
    energy_off_diagonal,
)
FAMILIES = (ENERGY_IN_TOP, ENERGY_IN_LEFT, ENERGY_IN_RIGHT, ENERGY_ON_DIAGONAL, ENERGY_OFF_DIAGONAL)
BASIS = (
    ENERGY_IN_TOP(0.1),
    ENERGY_IN_LEFT(0.1),
    ENERGY_IN_RIGHT(0.1),
    ENERGY_ON_DIAGONAL(0.1),
    ENERGY_OFF_DIAGONAL(0.1),
    ENERGY_ON_DIAGONAL(1.0),
    ENERGY_OFF_DIAGONAL(1.0),
)
