"""Hyperspherical energy is the mean inverse distance of neurons' directions, and rotations keep it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from adapterlab.geometry.measures.hyperspherical import (
    LEAST_DISTANCE,
    MOST_NEURONS,
    hyperspherical_change,
    hyperspherical_energy,
)
from tests.geometry.measures.layers import layer, normal, orthogonal


def inverse_distances(weight: torch.Tensor) -> float:
    unit = weight.numpy() / np.linalg.norm(weight.numpy(), axis=1, keepdims=True)
    return float(np.mean(1 / pdist(unit)))


def test_energy_is_the_mean_inverse_distance_of_all_pairs():
    weight = normal(30, 8)
    assert hyperspherical_energy(weight) == pytest.approx(inverse_distances(weight))
    assert hyperspherical_energy(weight.float()) == pytest.approx(inverse_distances(weight), rel=1e-5)


def test_two_orthogonal_neurons_have_energy_one_over_the_square_root_of_two():
    assert hyperspherical_energy(torch.eye(2)) == pytest.approx(2**-0.5)


def test_rotations_of_the_input_and_scales_of_neurons_keep_the_energy():
    base = normal(30, 8)
    assert hyperspherical_change(layer(base, base @ orthogonal(8) - base)) == pytest.approx(0, abs=1e-12)
    scaled = base * torch.arange(1.0, 31, dtype=torch.float64)[:, None]
    assert hyperspherical_change(layer(base, scaled - base)) == pytest.approx(0, abs=1e-12)


def test_change_is_relative_to_the_energy_before():
    base, delta = normal(20, 6), normal(20, 6, seed=1)
    expected = inverse_distances(base + delta) / inverse_distances(base) - 1
    assert hyperspherical_change(layer(base, delta)) == pytest.approx(expected)


def test_a_wide_layer_is_measured_on_evenly_spaced_neurons():
    rows = 2 * MOST_NEURONS - 1
    base, delta = normal(rows, 4), normal(rows, 4, seed=1)
    expected = inverse_distances((base + delta)[::2]) / inverse_distances(base[::2]) - 1
    assert hyperspherical_change(layer(base, delta)) == pytest.approx(expected, rel=1e-4)


def test_equal_neurons_have_a_finite_energy_and_zero_ones_are_left_out():
    assert hyperspherical_energy(torch.ones(2, 3)) == pytest.approx(1 / LEAST_DISTANCE)
    assert hyperspherical_energy(torch.tensor([[1.0, 0], [0, 0], [0, 1]])) == pytest.approx(2**-0.5)
    assert hyperspherical_energy(torch.ones(1, 3)) == 0


def test_collapsing_neurons_raise_the_energy():
    base = normal(20, 6)
    assert hyperspherical_change(layer(base, 3 * torch.ones_like(base))) > 0.5
