"""Norm of a change by depth and role.

>>> layers = [LayerGeometry(f"h.{i}.up", "up", i, (2, 3), norm=i + 1.0, relative_norm=0.1) for i in range(2)]
>>> [(each.role, each.depth, each.norm, each.share) for each in norms_by_depth_and_role(layers)]
[('up', 0, 1.0, 0.2), ('up', 1, 2.0, 0.8)]
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from adapterlab.geometry.result import LayerGeometry


class NormAt(NamedTuple):
    """Size of the change of the layers of one role at one depth."""

    role: str
    """Role in the block (`adapterlab.adapters.context.Role`)."""
    depth: int | None
    """Number of the block, from 0; None outside of the blocks."""
    norm: float
    """Frobenius norm of the change of these layers together."""
    relative_norm: float
    """The same divided by the norm of their base weights; infinite for a base of zero."""
    share: float
    """Share of the squared norm of the whole change."""


def norms_by_depth_and_role(layers: Iterable[LayerGeometry]) -> list[NormAt]:
    """Return the size of a change by role and depth, sorted by depth within each role; roles in the order of the layers.

    Args:
        layers: Measured layers of one change; layers of the same role and depth, such as experts, are taken together.
    """
    found: dict[str, dict[int | None, list[LayerGeometry]]] = {}
    for layer in layers:
        found.setdefault(layer.role, {}).setdefault(layer.depth, []).append(layer)
    total = math.fsum(layer.norm**2 for depths in found.values() for group in depths.values() for layer in group)
    return [
        _norm_at(role, depth, depths[depth], total)
        for role, depths in found.items()
        for depth in sorted(depths, key=lambda depth: math.inf if depth is None else depth)
    ]


def _norm_at(role: str, depth: int | None, layers: list[LayerGeometry], total: float) -> NormAt:
    energy = math.fsum(layer.norm**2 for layer in layers)
    base = math.fsum((layer.norm / layer.relative_norm) ** 2 for layer in layers if layer.relative_norm)
    relative = math.sqrt(energy / base) if base else math.inf
    return NormAt(role, depth, math.sqrt(energy), relative, energy / total if total else 0.0)
