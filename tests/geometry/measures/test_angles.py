"""Principal angles are those of planted rotations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from adapterlab.geometry.measures import measure_named
from adapterlab.geometry.measures.angles import principal_angles
from tests.geometry.measures.layers import layer, normal, orthogonal


def test_a_planted_rotation_of_one_direction_has_its_angle():
    u, v = orthogonal(12), orthogonal(12, 1)
    base = u @ torch.diag(torch.arange(12.0, 0, -1, dtype=torch.float64)) @ v.T
    angle = math.radians(20)
    turned = math.cos(angle) * u[:, 0] + math.sin(angle) * u[:, 5]
    found = layer(base, torch.outer(turned, v[:, 0]))
    assert principal_angles(found, 1, "left") == pytest.approx([20])
    assert principal_angles(found, 1, "right") == pytest.approx([0], abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_angles_are_those_of_scipy(side):
    base, delta = normal(15, 9), normal(15, 9, seed=1)
    directions = [
        np.linalg.svd(w.numpy())[0][:, :3] if side == "left" else np.linalg.svd(w.numpy())[2][:3].T
        for w in (delta, base)
    ]
    expected = np.degrees(subspace_angles(*directions))
    found = layer(base, delta)
    assert principal_angles(found, 3, side) == pytest.approx(expected)
    assert measure_named(f"mean_angle_{side}(3)").of(found) == pytest.approx(expected.mean())
    assert measure_named(f"smallest_angle_{side}(3)").of(found) == pytest.approx(expected.min())


def test_a_change_of_smaller_rank_is_compared_in_as_many_directions():
    base = torch.diag(torch.arange(9.0, 0, -1, dtype=torch.float64))
    one = torch.zeros_like(base)
    one[0, 0] = 1
    assert principal_angles(layer(base, one), 4, "left") == pytest.approx([0], abs=1e-5)
