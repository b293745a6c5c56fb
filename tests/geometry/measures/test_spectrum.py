"""Rank, stable rank and effective rank agree with closed forms and with numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from adapterlab.geometry.measures import measure_named
from adapterlab.geometry.measures.spectrum import effective_rank, numerical_rank, rank_tolerance, stable_rank
from tests.geometry.measures.layers import layer, normal, orthogonal


def test_rank_counts_planted_directions():
    base = normal(24, 16)
    assert numerical_rank(layer(base, normal(24, 3, seed=1) @ normal(3, 16, seed=2))) == 3
    assert numerical_rank(layer(base, normal(24, 16, seed=1))) == 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_of_stored_weights_adds_no_rank(dtype):
    base = normal(64, 48).to(dtype)
    change = (normal(64, 2, seed=1) @ normal(2, 48, seed=2)).to(torch.float32)
    tuned = (base.float() + change).to(dtype)
    rounded = layer(base.float(), tuned.float() - base.float())
    assert numerical_rank(rounded) == 2
    if dtype is not torch.float32:  # numpy's tolerance sees the rounding as rank
        assert np.linalg.matrix_rank(rounded.change.delta.numpy()) > 2


def test_rank_tolerance_is_numpys_for_an_exact_change():
    delta = normal(12, 8)
    exact = layer(torch.zeros(12, 8, dtype=torch.float64), delta)
    expected = 12 * np.finfo(np.float64).eps * np.linalg.norm(delta.numpy(), 2)
    assert rank_tolerance(exact) == pytest.approx(expected)


def test_stable_and_effective_rank_of_equal_singular_values_is_their_number():
    delta = orthogonal(12)[:, :5] @ orthogonal(12, 1)[:5]
    even = layer(torch.zeros(12, 12, dtype=torch.float64), delta)
    assert stable_rank(even) == pytest.approx(5)
    assert effective_rank(even) == pytest.approx(5, rel=1e-6)


def test_effective_rank_is_the_exponential_of_scipys_entropy():
    delta = normal(20, 10)
    s = np.linalg.svd(delta.numpy(), compute_uv=False)
    assert effective_rank(layer(torch.zeros_like(delta), delta)) == pytest.approx(math.exp(entropy(s)))
    assert stable_rank(layer(torch.zeros_like(delta), delta)) == pytest.approx((s**2).sum() / s[0] ** 2)


def test_measures_of_the_spectrum_keep_their_value_under_rotations_and_scale():
    delta = normal(10, 10)
    turned = 7 * orthogonal(10) @ delta @ orthogonal(10, 1)
    for name in ("rank", "stable_rank", "effective_rank"):
        of = measure_named(name).of
        assert of(layer(torch.eye(10).double(), delta)) == pytest.approx(of(layer(torch.eye(10).double(), turned)))
