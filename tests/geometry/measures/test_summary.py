"""Norms by depth and role add up."""

from __future__ import annotations

import math

import pytest

from adapterlab.geometry.measures.summary import norms_by_depth_and_role
from adapterlab.geometry.result import LayerGeometry


def at(path: str, role: str, depth: int | None, norm: float, relative: float) -> LayerGeometry:
    return LayerGeometry(path, role, depth, (2, 2), norm, relative)


def test_layers_of_one_role_and_depth_are_taken_together():
    layers = [at("a", "up", 0, 3.0, 0.5), at("b", "up", 0, 4.0, 0.25)]
    [only] = norms_by_depth_and_role(layers)
    assert (only.norm, only.share) == pytest.approx((5.0, 1.0))
    assert only.relative_norm == pytest.approx(5 / math.hypot(6, 16))


def test_roles_keep_their_order_and_depths_ascend():
    layers = [
        at("a", "up", 1, 1.0, 1.0),
        at("b", "query", 0, 1.0, 1.0),
        at("c", "up", 0, 1.0, 1.0),
        at("d", "up", None, 1.0, 1.0),
    ]
    found = norms_by_depth_and_role(layers)
    assert [(each.role, each.depth) for each in found] == [("up", 0), ("up", 1), ("up", None), ("query", 0)]
    assert sum(each.share for each in found) == pytest.approx(1)
