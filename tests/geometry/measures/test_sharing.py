"""Shared subspaces are found where they were planted, and random changes lie within their nulls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import InMemory
from adapterlab.geometry.measures.base import torch_svd
from adapterlab.geometry.measures.sharing import share
from adapterlab.geometry.plan import Plan
from adapterlab.geometry.result import GeometryResult
from adapterlab.geometry.run import run_geometry
from tests.geometry.measures.layers import normal, orthogonal


def changes(deltas, name="mlp.up_proj") -> InMemory:
    return InMemory({f"model.layers.{i}.{name}": (torch.zeros_like(d), d) for i, d in enumerate(deltas)})


def shared(deltas, k, **options):
    values, nulls = share(changes(deltas), k, factors=torch_svd, **options)
    [group] = values
    return values[group], nulls[group]


def test_changes_from_one_bank_share_the_side_of_the_bank():
    bank = normal(3, 12)
    found, nulls = shared([normal(20, 3, seed=i) @ bank for i in range(1, 5)], 3)
    assert found["right_overlap(3)"] == pytest.approx(1)
    assert found["right_common_basis(3)"] == pytest.approx(1)
    assert found["left_overlap(3)"] < 0.5
    assert nulls["right_overlap(3)"].high < 0.6


def test_changes_in_orthogonal_subspaces_share_nothing():
    basis = orthogonal(8)
    deltas = [basis[:, 2 * i : 2 * i + 2] @ normal(2, 8, seed=i) for i in range(3)]
    found, _ = shared(deltas, 2)
    assert found["left_overlap(2)"] == pytest.approx(0, abs=1e-6)
    assert 1 / 3 - 1e-6 <= found["left_common_basis(2)"] <= 2 / 3


def test_overlap_is_the_mean_squared_cosine_of_scipys_principal_angles():
    a, b = normal(10, 6, seed=1), normal(10, 6, seed=2)
    found, _ = shared([a, b], 3)
    tops = [np.linalg.svd(w.numpy())[0][:, :3] for w in (a, b)]
    assert found["left_overlap(3)"] == pytest.approx((np.cos(subspace_angles(*tops)) ** 2).mean(), rel=1e-5)


def test_common_basis_is_that_of_the_stacked_changes():
    deltas = [(i + 1) * normal(10, 6, seed=i) for i in range(3)]
    stacked = np.concatenate([(d / torch.linalg.vector_norm(d)).numpy() for d in deltas], 1)
    s = np.linalg.svd(stacked, compute_uv=False)
    found, _ = shared(deltas, 2)
    assert found["left_common_basis(2)"] == pytest.approx((s[:2] ** 2).sum() / 3, rel=1e-5)


def test_top_eigenvalues_of_large_sides_are_those_of_a_full_decomposition():
    deltas = [normal(300, 20, seed=i) for i in range(2)]
    stacked = np.concatenate([(d / torch.linalg.vector_norm(d)).numpy() for d in deltas], 1)
    expected = (np.linalg.svd(stacked, compute_uv=False)[:4] ** 2).sum() / 2
    found, nulls = shared(deltas, 4, draws=3)
    assert found["left_common_basis(4)"] == pytest.approx(expected, rel=1e-4)
    assert nulls["left_common_basis(4)"].mean == pytest.approx(expected, rel=0.1)


def test_random_changes_lie_within_their_nulls():
    found, nulls = shared([normal(16, 12, seed=i) for i in range(4)], 2, draws=100)
    for name, null in nulls.items():
        margin = null.high - null.low
        assert null.low - margin < found[name] < null.high + margin, name
    assert nulls["left_overlap(2)"].mean == pytest.approx(2 / 16, abs=0.02)


def test_layers_are_compared_with_those_of_the_same_role_and_shape():
    one = changes([normal(6, 4, seed=i) for i in range(2)], "mlp.up_proj")
    other = changes([normal(4, 6, seed=i) for i in range(2)], "mlp.down_proj")
    lone = changes([normal(4, 6)], "self_attn.q_proj")
    everything = InMemory(
        {p: (layer.base, layer.tuned) for c in (one, other, lone) for p in c.shapes for layer in [c.read(p)]}
    )
    values, nulls = share(everything, 2, factors=torch_svd)
    assert list(values) == list(nulls) == ["up 6x4", "down 4x6"]


def test_unchanged_layers_are_left_out():
    values, nulls = share(changes([normal(6, 4), torch.zeros(6, 4).double()]), 2, factors=torch_svd)
    assert values == nulls == {}


def test_no_directions_are_refused():
    with pytest.raises(AdapterlabError, match="at least one"):
        share(changes([normal(6, 4)]), 0)


def test_a_measured_change_holds_its_sharing_unless_it_is_left_out():
    pair = changes([normal(6, 4, seed=i) for i in range(2)])
    plan = Plan(hypotheses=(), draws=3)
    result = run_geometry(pair, plan)
    assert list(result.sharing_nulls) == list(result.sharing) == ["up 6x4"]
    assert run_geometry(pair, replace(plan, sharing=False)).sharing == {}
    assert GeometryResult.from_json(result.to_json()) == result
