"""Leading singular triplets of large weights: near NumPy's, with a bound that holds and is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapterlab.adapters.context import Factors
from adapterlab.geometry import leading
from adapterlab.geometry.change import InMemory
from adapterlab.geometry.hypotheses import all_hypotheses, hypothesis
from adapterlab.geometry.hypotheses.base import Setting
from adapterlab.geometry.leading import Leading, left_out, needed
from adapterlab.geometry.measures import all_measures, measure_named
from adapterlab.geometry.plan import Plan
from adapterlab.geometry.run import run_geometry
from adapterlab.surgery.init.svd_cache import FactorCache

DECAYS = {"fast": 2.0, "slow": 0.3, "flat": 0.0}
"""Exponents of singular values that fall as a power of their number."""


def matrix(rows: int, columns: int, decay: float, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(side, columns)))[0] for side in (rows, columns))
    return torch.tensor((u * np.arange(1.0, columns + 1) ** -decay) @ v.T).float()


@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS)
@pytest.mark.parametrize("shape", [(160, 96), (96, 160)], ids=["tall", "wide"])
def test_the_bound_holds_against_an_exact_decomposition(decay, shape, monkeypatch):
    monkeypatch.setattr(leading, "LARGE", 64)
    weight = matrix(160, 96, decay)
    weight = weight if shape == (160, 96) else weight.T.contiguous()
    found = Leading(FactorCache(), lambda length: 6)(weight)
    exact = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    bound = left_out(weight, found) * float(found.s[0])
    assert found.s.shape == (8,)
    rest = weight.double() - found.u.double() @ (found.u.double().T @ weight.double())
    norm = np.linalg.norm(rest.numpy(), 2)
    assert exact[8] * (1 - 1e-5) <= norm <= bound
    assert bound <= 100 * norm  # the vectors of the bound have the length sqrt(96)
    shortfall = exact[:8] - found.s.double().numpy()
    assert (shortfall >= -1e-5).all()
    assert (exact[:8] ** 2 <= found.s.double().numpy() ** 2 + bound**2).all()


def test_a_fast_spectrum_is_found_to_rounding(monkeypatch):
    monkeypatch.setattr(leading, "LARGE", 64)
    weight = matrix(160, 96, DECAYS["fast"])
    found = Leading(FactorCache(), lambda length: 6)(weight)
    u, s, vt = np.linalg.svd(weight.numpy())
    assert found.s.numpy() == pytest.approx(s[:8], rel=1e-5)
    assert np.abs((found.u.numpy() * u[:, :8]).sum(0)) == pytest.approx(np.ones(8), abs=1e-4)
    assert np.abs((found.vt.numpy() * vt[:8]).sum(1)) == pytest.approx(np.ones(8), abs=1e-4)


@pytest.mark.parametrize(("count", "large"), [(8, 97), (20, 64), (96, 64)])
def test_small_weights_and_many_triplets_are_exact(count, large, monkeypatch):
    monkeypatch.setattr(leading, "LARGE", large)
    weight = matrix(160, 96, 0.3)
    found = Leading(FactorCache(), lambda length: count)(weight)
    assert found.s.shape == (96,)
    assert left_out(weight, found) == 0


def test_the_largest_need_counts():
    named = [measure_named(name) for name in ("energy_in_top(0.1)", "mean_angle_left(8)", "stable_rank")]
    assert needed(named, [], 4)(200) == 20
    assert needed(named[1:], [(hypothesis("lora"), 32)], 4)(200) == 32
    assert needed(named[2:], [], 4)(200) == 4
    assert needed([measure_named("rank")], [], 4)(200) == 200
    assert needed([], [(hypothesis("svft"), 0)], 4)(200) == 200


def change(rows: int = 400, columns: int = 320) -> InMemory:
    weights = {}
    for i in range(2):
        base = matrix(rows, columns, 0.3, seed=i)
        weights[f"h.{i}.mlp.up_proj"] = base, base + 0.01 * matrix(rows, columns, 2.0, seed=i + 7)
    return InMemory(weights)


TOP_ALONE = [
    each.name
    for each in all_measures()
    if each.directions is not None and each.directions(320) <= 64
]  # fmt: skip


def test_measures_that_need_the_leading_directions_agree_with_exact_ones(monkeypatch):
    plan = Plan(
        budgets=(6000,), measures=tuple(TOP_ALONE), hypotheses=("low_rank", "svd_top_k"), draws=2, sharing=False
    )
    exact = run_geometry(change(), plan)
    monkeypatch.setattr(leading, "LARGE", 64)
    found = run_geometry(change(), plan)
    for one, other in zip(found.layers, exact.layers, strict=True):
        assert one.left_out > 0 == other.left_out
        # The singular values of the bases fall slowly, so directions at the edge of the top tenth change places.
        assert one.measures == pytest.approx(other.measures, rel=0.06)
    for one, other in zip(found.projections, exact.projections, strict=True):
        assert one.residual == pytest.approx(other.residual, rel=0.02)
    low_rank = [next(p for p in result.projections if p.hypothesis == "low_rank").residual for result in (found, exact)]
    assert low_rank[0] >= low_rank[1] - 1e-6  # by Eckart and Young
    assert not any("randomized" in note for note in exact.notes)
    (note,) = [note for note in found.notes if "randomized" in note]
    assert "of 2 large layers" in note
    assert f"at most {100 * max(layer.left_out for layer in found.layers):.2g} %" in note


def test_a_measure_that_needs_all_directions_makes_them_exact(monkeypatch):
    monkeypatch.setattr(leading, "LARGE", 64)
    result = run_geometry(change(), Plan(hypotheses=(), measures=("stable_rank", "rank"), draws=2, sharing=False))
    assert [layer.left_out for layer in result.layers] == [0, 0]


@pytest.mark.parametrize("name", all_hypotheses())
def test_no_projection_reads_more_directions_than_it_says(name):
    each, [_, other] = hypothesis(name), list(change(24, 16))
    size = each.sizes([other.shape] * 2)[0]
    count = min(each.directions(size), 16)

    def cut(weight):
        u, s, vt = FactorCache()(weight)
        return Factors(u[:, :count], s[:count], vt[:count])

    whole, few = (each.project([other], size, Setting(factors)) for factors in (FactorCache(), cut))
    assert torch.allclose(whole[0].weight, few[0].weight)
