"""Each class of changes holds what its adapter can make, and nothing that only other classes can."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from adapterlab.adapters.context import Context
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.geometry.change import InMemory, WeightChange
from adapterlab.geometry.hypotheses import all_hypotheses, hypothesis
from adapterlab.geometry.hypotheses.base import Setting
from adapterlab.geometry.hypotheses.shared_random import random_factors
from adapterlab.geometry.measure import project
from tests.geometry.planted import in_layers, maker, planted, start, weights

HYPOTHESES = all_hypotheses()
PLANTED = {
    "low_rank": 2,
    "rotation": 4,
    "butterfly": 4,
    "givens": 1,
    "reflections": 4,
    "gain": 1,
    "magnitude_direction": 2,
    "svd_banded": 2,
    "svd_top_k": 8,
    "svd_rotation": 8,
    "fourier": 40,
    "circulant": 8,
    "kronecker": 4,
    "hadamard": 2,
    "sparse": 2,
    "shards": 4,
    "shared_random": 16,
    "shared_subspace": 3,
}
"""Size of the planted change of each class."""
ADAPTERS = [name for name in PLANTED if name != "shared_subspace"]
SHAPES = [(32, 32), (48, 32), (32, 48)]
INCLUDED = {
    ("gain", "magnitude_direction"): "a gain on the rows is a magnitude, with a direction of rank 0",
    ("hadamard", "low_rank"): "a product of two matrices of rank 2 has rank 4, with as many parameters as rank 4",
}
"""Classes that hold the planted changes of another one, with the mathematical reason."""
PATIENT = Setting(starts=6, trial=20, tolerance=1e-10, sweeps=1000)
NESTED: dict[str, Sequence[int]] = {
    "low_rank": (1, 2, 4, 8),
    "rotation": (2, 4, 8, 16),
    "butterfly": (2, 4, 8),
    "reflections": (2, 4, 8, 16),
    "gain": (1, 2),
    "magnitude_direction": (1, 2, 4, 8),
    "svd_banded": (0, 1, 4, 12),
    "svd_top_k": (1, 4, 12, 32),
    "svd_rotation": (1, 4, 12, 32),
    "fourier": (1, 10, 100, 1000),
    "hadamard": (1, 2, 4),
    "sparse": (1, 2, 4, 8),
    "shards": (1, 2, 4, 8, 16),
    "shared_random": (1, 4, 16, 64),
    "shared_subspace": (1, 2, 4, 8),
}
"""Sizes by class, each with all changes of the size before it."""


def residual(name: str, size: int, change: InMemory, setting: Setting = PATIENT) -> float:
    return project(change, HYPOTHESES[name], size, setting)[0].residual


def noisy(shape: tuple[int, int] = (32, 48), layers: int = 2, dtype: torch.dtype = torch.float64) -> InMemory:
    """A change that is in no class: noise, and a part of low rank."""
    changes = {}
    for n in range(layers):
        base, noise = weights(shape, n), weights(shape, 10 + n)
        low = weights((shape[0], 3), 20 + n) @ weights((3, shape[1]), 30 + n)
        tuned = base + 0.1 * noise + 0.1 * low
        changes[f"h.{n}.q_proj"] = base.to(dtype), tuned.to(dtype)
    return InMemory(changes)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ADAPTERS)
def test_a_class_holds_what_its_adapter_makes(name, shape):
    for seed in range(2):
        change = InMemory({"h.0.q_proj": planted(name, PLANTED[name], shape, seed)})
        left = residual(name, PLANTED[name], change)
        assert left < (1e-10 if HYPOTHESES[name].exact else 1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_changes_in_a_shared_subspace_are_found(shape):
    assert residual("shared_subspace", 3, in_layers("shared_subspace", 3, shape)) < 1e-10


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "svd_top_k"])
def test_a_class_counts_the_parameters_that_its_adapter_trains(name, shape):
    state = start(maker(name, PLANTED[name]), weights(shape), 0)
    trained = sum(t.numel() for t in state.trainable.values())
    assert HYPOTHESES[name].parameters(PLANTED[name], {"h.0.q_proj": shape, "h.1.q_proj": shape}) == 2 * trained


def test_a_free_core_needs_no_shift_of_singular_values_beside_it():
    state = start(maker("svd_top_k", 8), weights((32, 48)), 0)
    trained = sum(t.numel() for t in state.trainable.values())
    assert HYPOTHESES["svd_top_k"].parameters(8, {"q": (32, 48)}) == trained - 8


@pytest.mark.parametrize("name", ADAPTERS)
def test_sizes_are_those_of_the_adapter(name):
    shapes = [(32, 48), (48, 32)]
    fit = [size for size in HYPOTHESES[name].sizes(shapes) if name != "gain" or size == 1]
    assert all(maker(name, size).validate(shapes) is None for size in (fit[0], fit[-1]))


@pytest.mark.parametrize("name", PLANTED)
def test_sizes_are_in_the_order_of_their_parameters(name):
    shapes = {"h.0.q_proj": (32, 48), "h.0.mlp.down_proj": (48, 32)}
    each = HYPOTHESES[name]
    counts = [each.parameters(size, shapes) for size in each.sizes(list(shapes.values()))]
    assert counts == sorted(counts)


@pytest.mark.parametrize("name", PLANTED)
def test_no_other_class_holds_a_planted_change_at_equal_parameters(name):
    change = in_layers(name, PLANTED[name], (32, 48))
    budget = HYPOTHESES[name].parameters(PLANTED[name], change.shapes)
    for other, each in HYPOTHESES.items():
        if other == name:
            continue
        sizes = each.sizes(list(change.shapes.values()))
        within = [size for size in sizes if each.parameters(size, change.shapes) <= budget]
        left = residual(other, (within or sizes[:1])[-1], change, Setting())
        assert left < 1e-6 if (name, other) in INCLUDED else left > 0.03, other


@pytest.mark.parametrize("name", PLANTED)
def test_the_base_is_in_every_class(name):
    for change in (noisy(), noisy(dtype=torch.float32)):
        sizes = HYPOTHESES[name].sizes(list(change.shapes.values()))
        assert all(residual(name, size, change, Setting()) <= 1 for size in (sizes[0], sizes[len(sizes) // 2]))


@pytest.mark.parametrize("name", PLANTED)
def test_a_change_of_zero_is_expressed_wholly(name):
    base = weights((32, 48)).float()
    change = InMemory({"h.0.q_proj": (base, base.clone()), "h.1.q_proj": (base, base.clone())})
    _, found = project(change, HYPOTHESES[name], PLANTED[name], Setting())
    assert all(torch.equal(weight, base) for weight in found.values())


@pytest.mark.parametrize("name", PLANTED)
def test_dead_features_of_the_base_do_no_harm(name):
    base, tuned = weights((32, 48)), weights((32, 48), 1)
    base[3] = tuned[5] = 0
    base[:, 7:12] = 0
    _, found = project(InMemory({"h.0.q_proj": (base, tuned)}), HYPOTHESES[name], PLANTED[name], Setting())
    assert found["h.0.q_proj"].isfinite().all()


@pytest.mark.parametrize("name", NESTED)
def test_the_residual_falls_with_the_size_of_nested_classes(name):
    change = noisy()
    curve = [residual(name, size, change, Setting(tolerance=1e-4, trial=3)) for size in NESTED[name]]
    assert all(larger <= smaller + 1e-9 for smaller, larger in pairwise(curve))


@pytest.mark.parametrize("name", PLANTED)
def test_a_projection_is_the_same_every_time(name):
    change = noisy()
    twice = [project(change, HYPOTHESES[name], PLANTED[name], Setting())[1] for _ in range(2)]
    assert all(torch.equal(twice[0][path], twice[1][path]) for path in change.shapes)


@pytest.mark.parametrize("name", [name for name in PLANTED if not HYPOTHESES[name].exact])
def test_more_starts_and_sweeps_never_raise_the_residual(name):
    change = noisy()
    first = residual(name, PLANTED[name], change, Setting(starts=1, sweeps=1))
    assert residual(name, PLANTED[name], change, Setting(starts=3, trial=5, tolerance=1e-5)) <= first + 1e-12


def test_an_unfinished_fit_says_so():
    change = noisy()
    assert not project(change, HYPOTHESES["hadamard"], 2, Setting(sweeps=2, tolerance=0.0))[0].converged


def test_gains_of_the_last_layer_of_a_feed_forward_block_are_on_its_inputs():
    base, gains = weights((32, 48)), 1 + 0.2 * weights((48, 1)).flatten()
    scaled = base * gains
    assert residual("gain", 1, InMemory({"h.0.mlp.down_proj": (base, scaled)})) < 1e-20
    assert residual("gain", 1, InMemory({"h.0.q_proj": (base, scaled)})) > 0.5
    assert HYPOTHESES["gain"].parameters(1, {"h.0.q_proj": (32, 48), "h.0.mlp.down_proj": (32, 48)}) == 32 + 48


def test_gains_on_both_sides_are_found():
    base = weights((32, 48))
    rows, columns = (1 + 0.2 * weights((side, 1), side) for side in (32, 48))
    assert residual("gain", 2, InMemory({"h.0.q_proj": (base, rows * base * columns.T)})) < 1e-6


def test_psoft_without_gains_is_a_rotation_of_the_singular_basis():
    from adapterlab.adapters import State, adapter

    base, method = weights((32, 48)), adapter("psoft", rank=6, relaxed=False)
    state = method.init(base, Context.of_layer(base))
    turned = State({"skew": 0.2 * weights((15, 1)).flatten()}, state.frozen, state.derived)
    assert residual("svd_rotation", 6, InMemory({"q": (base, method.weight(turned, base))})) < 1e-6


def test_random_factors_of_a_smaller_layer_are_part_of_those_of_a_larger_one():
    small, large = random_factors(4, (8, 16), 0), random_factors(6, (32, 48), 0)
    assert torch.equal(small[0], large[0][:4, :16])
    assert torch.equal(small[1], large[1][:8, :4])


def test_layers_of_one_shape_share_a_subspace():
    shapes = {"h.0.q": (8, 8), "h.0.up": (16, 8), "h.1.q": (8, 8), "h.1.up": (16, 8)}
    shared = HYPOTHESES["shared_subspace"]
    assert sorted(map(sorted, shared.groups(shapes))) == [["h.0.q", "h.1.q"], ["h.0.up", "h.1.up"]]
    assert shared.parameters(2, shapes) == 2 * (8 + 8) + 2 * (16 + 8) + 4 * 2 * 2


@pytest.mark.parametrize(("name", "size"), [("rotation", 5), ("circulant", 7), ("low_rank", 33), ("reflections", 3)])
def test_a_size_that_fits_no_layer_is_an_error(name, size):
    with pytest.raises(AdapterlabError, match=f"{name}: size {size} does not fit h.0.q_proj \\(32 x 48\\)"):
        project(noisy(), HYPOTHESES[name], size, Setting())


def test_a_hypothesis_has_its_own_name_and_those_of_its_adapters():
    assert hypothesis("svft") is hypothesis("svd_banded")
    with pytest.raises(UnknownNameError, match="lorra"):
        hypothesis("lorra")


def test_a_weight_keeps_its_dtype():
    base = weights((32, 48)).float()
    change = WeightChange("h.0.q_proj", base, base + 0.1 * weights((32, 48), 1).float())
    for name, each in HYPOTHESES.items():
        [nearest] = each.project([change], PLANTED[name], Setting())
        weight: Tensor = nearest.weight
        assert (weight.dtype, weight.shape) == (torch.float32, base.shape), name
