"""Sparsity of planted changes."""

from __future__ import annotations

import math

import pytest
import torch

from adapterlab.geometry.measures import measure_named
from adapterlab.geometry.measures.sparsity import hoyer_sparsity
from tests.geometry.measures.layers import layer, normal

ZERO = torch.zeros(5, 8, dtype=torch.float64)


def test_equal_entries_need_nine_tenths_of_them_for_nine_tenths_of_the_energy():
    even = layer(ZERO, torch.ones_like(ZERO))
    assert measure_named("entries_for_energy(0.9)").of(even) == 36 / 40
    assert hoyer_sparsity(even) == pytest.approx(0)


def test_one_entry_holds_everything():
    delta = ZERO.clone()
    delta[2, 3] = -4
    one = layer(ZERO, delta)
    assert measure_named("entries_for_energy(1)").of(one) == 1 / 40
    assert hoyer_sparsity(one) == pytest.approx(1)


def test_entries_are_counted_from_the_largest():
    delta = ZERO.clone()
    delta[0, :3] = torch.tensor([3.0, -2.0, 1.0])  # energies 9, 4 and 1 of 14
    found = layer(ZERO, delta)
    shares = {0.6: 1, 0.7: 2, 13 / 14: 2, 0.95: 3}
    assert {share: measure_named(f"entries_for_energy({share})").of(found) * 40 for share in shares} == shares


def test_hoyers_sparsity_of_normal_entries_is_that_of_their_mean_size():
    # E|x| = sqrt(2 / pi) for a standard normal x.
    found = hoyer_sparsity(layer(torch.zeros(200, 200).double(), normal(200, 200)))
    assert found == pytest.approx((200 - 200 * math.sqrt(2 / math.pi)) / 199, abs=0.005)
