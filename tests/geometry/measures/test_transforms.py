"""Concentration in Fourier, circulant and Kronecker form, of planted changes and against other implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import circulant

from adapterlab.adapters import State, adapter
from adapterlab.geometry.measures import measure_named
from adapterlab.geometry.measures.transforms import (
    circulant_concentration,
    kronecker_concentration,
    nearest_circulant,
    rearranged,
)
from tests.geometry.measures.layers import layer, normal


def change(delta: torch.Tensor):
    return layer(torch.zeros_like(delta), delta)


@pytest.mark.parametrize("shape", [(10, 8), (9, 7), (8, 9)])
def test_fourier_concentration_is_that_of_the_whole_transform(shape):
    delta = normal(*shape)
    energy = np.sort(np.abs(np.fft.fft2(delta.numpy())).ravel() ** 2)[::-1]
    count = int(np.ceil(0.1 * energy.size))
    expected = energy[:count].sum() / energy.sum()
    assert measure_named("fourier_concentration(0.1)").of(change(delta)) == pytest.approx(expected)


def test_one_wave_lies_in_two_coefficients():
    rows, columns = torch.arange(20.0)[:, None], torch.arange(10.0)
    wave = torch.cos(2 * torch.pi * (3 * rows / 20 + 2 * columns / 10)).double()
    assert measure_named("fourier_concentration(0.01)").of(change(wave)) == pytest.approx(1)
    assert measure_named("fourier_concentration(0.005)").of(change(wave)) == pytest.approx(0.5)


def test_a_circulant_change_is_found_and_its_nearest_is_the_orthogonal_projection():
    blocks = [[circulant(normal(4, seed=2 * i + j).numpy()) for j in range(3)] for i in range(2)]
    planted = torch.from_numpy(np.block(blocks))
    noise = normal(8, 12, seed=9)
    nearest = nearest_circulant(planted + noise, 4)
    assert circulant_concentration(change(planted)) == pytest.approx(1)
    assert torch.allclose(nearest_circulant(planted, 4), planted)
    assert torch.allclose(nearest_circulant(nearest, 4), nearest)
    assert float(((planted + noise - nearest) * nearest).sum()) == pytest.approx(0, abs=1e-10)


def test_a_change_of_c3a_is_circulant():
    method = adapter("c3a", block_size=4)
    weight = method.weight(State(trainable={"kernel": normal(2, 3, 4).float()}), torch.zeros(8, 12))
    assert circulant_concentration(change(weight)) == pytest.approx(1, rel=1e-5)


def test_a_kronecker_product_of_the_chosen_shapes_is_found():
    product = torch.from_numpy(np.kron(normal(3, 2).numpy(), normal(4, 4, seed=1).numpy()))
    assert kronecker_concentration(change(product)) == pytest.approx(1)


def test_kronecker_concentration_is_the_share_of_the_largest_singular_value():
    delta = normal(144, 100)  # large enough for the iteration
    s = np.linalg.svd(rearranged(delta).numpy(), compute_uv=False)
    assert min(rearranged(delta).shape) > 64
    assert kronecker_concentration(change(delta)) == pytest.approx(s[0] ** 2 / (s**2).sum(), rel=1e-4)


def test_the_best_kronecker_factors_leave_the_stated_residual():
    delta = normal(6, 4)
    u, s, vt = np.linalg.svd(rearranged(delta).numpy())
    nearest = np.kron(s[0] * u[:, 0].reshape(2, 2), vt[0].reshape(3, 2))
    residual = ((delta.numpy() - nearest) ** 2).sum() / float(delta.square().sum())
    assert kronecker_concentration(change(delta)) == pytest.approx(1 - residual)
