"""Energy in the singular basis of the base is that of planted couplings."""

from __future__ import annotations

import pytest
import torch

from adapterlab.geometry.measures import measure_named
from tests.geometry.measures.layers import in_basis, layer, normal, orthogonal

BASE = normal(20, 10)


def energy(name: str, found) -> float:
    return measure_named(name).of(found)


def test_a_change_between_top_directions_has_all_energy_in_top():
    coupling = torch.zeros(10, 10, dtype=torch.float64)
    coupling[:2, :2] = normal(2, 2)
    inside = in_basis(BASE, coupling)
    assert energy("energy_in_top(0.2)", inside) == pytest.approx(1)
    assert energy("energy_in_top(0.1)", inside) == pytest.approx(float(coupling[0, 0] ** 2 / coupling.square().sum()))


def test_left_and_right_energy_are_those_of_rows_and_columns_of_the_coupling():
    coupling = normal(10, 10)
    found, total = in_basis(BASE, coupling), coupling.square().sum()
    assert energy("energy_in_left(0.3)", found) == pytest.approx(float(coupling[:3].square().sum() / total))
    assert energy("energy_in_right(0.3)", found) == pytest.approx(float(coupling[:, :3].square().sum() / total))


def test_diagonal_and_off_diagonal_energy_divide_the_energy_in_top():
    coupling = normal(10, 10)
    found, total = in_basis(BASE, coupling), coupling.square().sum()
    on, off = energy("energy_on_diagonal(0.5)", found), energy("energy_off_diagonal(0.5)", found)
    assert on == pytest.approx(float(coupling.diagonal()[:5].square().sum() / total))
    assert on + off == pytest.approx(energy("energy_in_top(0.5)", found))
    assert energy("energy_on_diagonal(1)", found) + energy("energy_off_diagonal(1)", found) == pytest.approx(1)


def test_scaled_singular_values_lie_on_the_diagonal_and_a_rotation_off_it():
    scaled = in_basis(BASE, torch.diag(normal(10)))
    assert energy("energy_on_diagonal(1)", scaled) == pytest.approx(1)
    symmetric = torch.diag(torch.arange(10.0, 0, -1, dtype=torch.float64))
    small = torch.linalg.matrix_exp(1e-4 * (normal(10, 10) - normal(10, 10).T))
    turned = layer(symmetric, symmetric @ small - symmetric)
    assert energy("energy_off_diagonal(1)", turned) == pytest.approx(1, abs=1e-6)


def test_a_change_outside_of_the_column_space_has_no_energy_in_the_basis():
    u = orthogonal(20)
    base = u[:, :10] @ torch.diag(torch.arange(10.0, 0, -1, dtype=torch.float64))
    outside = layer(base, u[:, 10:] @ normal(10, 10))
    for name in ("energy_on_diagonal(1)", "energy_off_diagonal(1)", "energy_in_left(1)"):
        assert energy(name, outside) == pytest.approx(0, abs=1e-20)
    assert energy("energy_in_right(1)", outside) == pytest.approx(1)
