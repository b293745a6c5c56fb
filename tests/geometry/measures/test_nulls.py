"""Nulls: closed-form means for random changes, equal distributions across bases, and names of measures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.geometry.change import InMemory
from adapterlab.geometry.measures import all_measures, measure_named
from adapterlab.geometry.measures.base import null_of
from adapterlab.geometry.measures.nulls import compare
from adapterlab.geometry.plan import Plan
from adapterlab.geometry.run import run_geometry
from tests.geometry.measures.layers import layer, normal

PLAN = Plan(hypotheses=(), draws=5, sharing=False)


def test_energy_of_random_changes_has_its_beta_distribution():
    # A block of `a` of `n` normal entries holds a share with the distribution Beta(a / 2, (n - a) / 2).
    drawn = compare([measure_named("energy_in_top(0.2)")], layer(normal(20, 10), normal(20, 10, seed=1)), draws=400)
    null, exact = drawn["energy_in_top(0.2)"], stats.beta(4 / 2, 196 / 2)
    assert null.mean == pytest.approx(exact.mean(), abs=4 * exact.std() / 20)
    assert (null.low, null.high) == pytest.approx(exact.ppf([0.025, 0.975]), abs=0.01)


def test_circulant_energy_of_random_changes_is_one_over_the_block():
    [null] = compare(
        [measure_named("circulant_concentration")], layer(normal(16, 8), normal(16, 8)), draws=400
    ).values()
    assert null.mean == pytest.approx(1 / 8, abs=0.01)


def test_nulls_drawn_once_by_shape_have_the_distribution_of_those_drawn_in_the_basis_of_the_base():
    found = layer(normal(12, 8), normal(12, 8, seed=1))
    measures = [each for each in all_measures() if each.of_shape]
    shared = compare(measures, found, draws=50)
    for each in measures:
        own = null_of(each.of, found, draws=50, seed=1)
        error = max(own.high - own.low, shared[each.name].high - shared[each.name].low) / 4 / np.sqrt(25)
        assert shared[each.name].mean == pytest.approx(own.mean, abs=5 * error + 1e-9), each.name


def test_measures_by_shape_are_free_of_scale():
    base, delta = normal(18, 12), normal(18, 12, seed=1)
    for each in all_measures():
        if each.of_shape:
            assert each.of(layer(base, 10 * delta)) == pytest.approx(each.of(layer(base, delta))), each.name


def test_a_random_change_lies_within_the_null_of_every_measure():
    # 10 % margins on 95 % intervals of 50 draws: a wrong norm or basis is far outside.
    found = layer(normal(18, 12), 3 * normal(18, 12, seed=7))
    for name, null in compare(all_measures(), found, draws=50).items():
        margin = null.high - null.low
        assert null.low - margin <= measure_named(name).of(found) <= null.high + margin, name


def test_nulls_do_not_depend_on_the_order_of_the_layers():
    weights = {f"h.{i}.attn.q_proj": (normal(8, 8, seed=i), normal(8, 8, seed=i + 5)) for i in range(3)}
    forward = run_geometry(InMemory(weights), PLAN)
    backward = run_geometry(InMemory(dict(reversed(weights.items()))), PLAN)
    assert {each.path: each.nulls for each in forward.layers} == {each.path: each.nulls for each in backward.layers}


def test_every_measure_of_a_change_is_finite_and_found_by_its_name():
    result = run_geometry(InMemory({"h.0.attn.q_proj": (normal(8, 6), normal(8, 6, seed=1))}), PLAN)
    [only] = result.layers
    assert list(only.measures) == [each.name for each in all_measures()]
    assert np.isfinite(list(only.measures.values())).all()
    assert all(measure_named(each.name) == each for each in all_measures())
    assert all(each.title and each.explanation for each in all_measures())


def test_a_measure_with_another_parameter_has_its_name():
    assert measure_named("energy_in_top(0.050)").name == "energy_in_top(0.05)"
    assert measure_named("mean_angle_left(4)").name == "mean_angle_left(4)"


@pytest.mark.parametrize("name", ["energy_in_tip(0.1)", "energy_in_top", "energy_in_top(x)", "energy_in_top(1e)", ""])
def test_an_unknown_measure_is_refused_with_the_known_ones(name):
    with pytest.raises(UnknownNameError, match=r"energy_in_top\(NUMBER\)|stable_rank"):
        measure_named(name)


@pytest.mark.parametrize(
    "name", ["energy_in_top(0)", "energy_in_left(1.5)", "mean_angle_left(0.5)", "mean_angle_left(1e999)"]
)
def test_a_parameter_out_of_range_is_refused_with_its_range(name):
    with pytest.raises(AdapterlabError, match="give the "):
        measure_named(name)


def test_layers_in_float32_are_measured_alike():
    base, delta = normal(18, 12), normal(18, 12, seed=1)
    for each in all_measures():
        assert each.of(layer(base.float(), delta.float())) == pytest.approx(
            each.of(layer(base, delta)), rel=1e-3, abs=1e-5
        )
