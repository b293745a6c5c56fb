"""What holds for every method: each statement is run for all of them."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear as affine

from adapterlab.adapters import adapter, all_adapters
from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Role
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.surgery import sized
from adapterlab.surgery.sizing import parameter_count
from tests.adapters.methods import ALL, LINEAR, context, moved, small
from tests.conftest import tiny_llama


@dataclasses.dataclass(frozen=True)
class Plain:
    """A linear layer and nothing else, or what another adapter has made of it."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    bare: bool = False

    def __call__(self, x):
        return affine(x, self.weight, self.bias)


def weight_of(rows: int, columns: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=dtype) / columns**0.5


@pytest.mark.parametrize("name", LINEAR)
@given(
    rows=st.sampled_from([8, 12, 24]),
    columns=st.sampled_from([8, 16, 20]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    strength=st.sampled_from([-1.0, 0.25, 1.0, 1.25]),
    biased=st.booleans(),
    role=st.sampled_from([Role.DOWN, Role.OTHER]),
    batch=st.sampled_from([(3,), (2, 5)]),
    bare=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_forward_is_the_adapted_weight_applied(name, rows, columns, dtype, strength, biased, role, batch, bare):
    method = small(name)
    weight = weight_of(rows, columns, dtype)
    state = moved(method.init(weight, context(weight, role=role)))
    bias = torch.randn(rows, dtype=dtype) if biased else None
    x = torch.randn(*batch, columns, dtype=dtype)
    slow = affine(
        x, method.weight(state, weight, strength), None if bias is None else method.bias(state, bias, strength)
    )
    fast = method.forward(state, x, Plain(weight, bias, bare), strength)
    largest = max(1.0, float(slow.abs().max()))  # elements near zero are differences of such numbers
    torch.testing.assert_close(fast, slow, rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=1e-5 * largest)


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("name", LINEAR)
def test_gradients_of_forward_are_those_of_the_weight(name, bare):
    """Where a method holds something constant to the gradient, it does so in both."""
    method = small(name)
    weight = weight_of(12, 16, torch.float64)
    state = moved(method.init(weight, context(weight)))
    x = torch.randn(5, 16, dtype=torch.float64)
    gradients = []
    for way in (
        lambda s, x: affine(x, method.weight(s, weight)),
        lambda s, x: method.forward(s, x, Plain(weight, None, bare)),
    ):
        leaves = {k: t.clone().requires_grad_() for k, t in state.trainable.items()}
        x_leaf = x.clone().requires_grad_()
        way(dataclasses.replace(state, trainable=leaves), x_leaf).square().sum().backward()
        gradients.append([x_leaf.grad, *(t.grad for t in leaves.values())])
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(0, 1000), size=st.sampled_from([0.01, 0.3]), role=st.sampled_from([Role.DOWN, Role.OTHER]))
@settings(max_examples=8, deadline=None)
def test_declared_invariants_hold(name, dtype, seed, size, role):
    method = small(name)
    weight = weight_of(20, 16, dtype, seed)
    start = method.init(weight, context(weight, seed, role))
    later = moved(start, seed, size)
    assert method.invariants, f"{name} claims nothing"
    for invariant in method.invariants:
        state = start if invariant.only_at_start else later
        residual = invariant.residual(method, state, weight, method.weight(state, weight))
        assert residual <= invariant.bound(dtype), f"{invariant}: {residual}"


@pytest.mark.parametrize("name", LINEAR)
def test_strength_zero_is_the_base(name):
    method = small(name)
    weight = weight_of(12, 16, torch.float64)
    state = moved(method.init(weight, context(weight)))
    torch.testing.assert_close(method.weight(state, weight, 0.0), weight, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LINEAR)
def test_many_states_run_in_one_pass(name):
    method = small(name)
    weight = weight_of(12, 16, torch.float64)
    states = [moved(method.init(weight, context(weight)), seed) for seed in range(3)]
    x = torch.randn(4, 16, dtype=torch.float64)
    stacked = {k: torch.stack([s.trainable[k] for s in states]) for k in states[0].trainable}

    def run(trainable):
        return method.forward(dataclasses.replace(states[0], trainable=trainable), x, Plain(weight, None))

    together = torch.func.vmap(run)(stacked)
    apart = torch.stack([run(s.trainable) for s in states])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("name", ALL)
def test_a_method_says_what_it_believes(name):
    method = all_adapters()[name]
    assert method.claim.endswith(".")
    assert method.title
    assert method.paper.startswith("https://")
    assert method.theme in Theme
    assert method.__doc__


@pytest.mark.parametrize("name", ALL)
def test_settings_survive_json(name):
    method = small(name)
    data = json.loads(json.dumps(method.settings()))
    assert adapter(data.pop("name"), **data) == method


@pytest.mark.parametrize("name", LINEAR)
def test_sized_comes_nearest_below_the_budget(name):
    model = tiny_llama()
    method = small(name)
    if method.size_knob is None:
        assert sized(method, model, 1) is method
        return
    shapes = [(32, 32), (16, 32), (48, 32), (32, 48)]

    def count(adapter):
        return method.counted(parameter_count(model, adapter))

    counts = [count(dataclasses.replace(method, **{method.size_knob: size})) for size in method.sizes(shapes)]
    assert counts == sorted(counts)
    budget = (counts[0] + counts[-1]) // 2
    best = sized(method, model, budget)
    assert isinstance(best, LinearAdapter)
    assert count(best) == max(c for c in counts if c <= budget)
