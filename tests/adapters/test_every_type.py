"""What holds for methods of every kind of site: they are pure functions of their state, whatever they adapt."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from adapterlab.adapters.adapter_types import (
    Pair,
    PairAdapter,
    PrefixAdapter,
    PromptAdapter,
    ResidualAdapter,
    RoutedAdapter,
    Signal,
)
from adapterlab.surgery import parameter_count, sized
from adapterlab.surgery.attach import initial_states
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.surgery.sites.find import places_for
from tests.adapters.methods import ALL, SHIPPED, context, moved, small
from tests.adapters.test_every_method import Plain
from tests.conftest import tiny_llama

KINDS = (PairAdapter, PrefixAdapter, PromptAdapter, ResidualAdapter, RoutedAdapter)
NAMES = [name for name, method in SHIPPED.items() if issubclass(method, KINDS)]


def function_of(method):
    """The method as one function of what is trained, with the state that it starts at."""
    weight = torch.randn(12, 16, dtype=torch.float64)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    where = context(weight)
    match method:
        case PairAdapter():
            state = method.init(Pair(weight.unflatten(0, (3, 4)), torch.randn(3, 9, 4, dtype=torch.float64)), where)
            return state, lambda s: method.forward(s, x, 0.5)
        case PrefixAdapter():
            attention = Decoder(tiny_llama().double()).attentions[0]
            state = method.init(attention, where)
            return state, lambda s: torch.cat(method.prefix(s, attention, 0.5)[:2], dim=1)
        case PromptAdapter():
            return method.init(weight, where), method.prompt
        case ResidualAdapter():
            slots = torch.tensor([[0, 1, -1, 2, 3], [-1, 0, 1, 2, 3]])
            return method.init(16, where), lambda s: method.change(s, x, slots, 0.5)
        case RoutedAdapter():
            signal = Signal(torch.tensor([0, 0]), x, training=False)
            shares = method.route(method.init_router(16, where), signal, 1)[0]
            return method.init(weight, where), lambda s: method.forward(s, x, Plain(weight, None), shares, 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_many_states_run_in_one_pass(name):
    start, function = function_of(small(name))
    states = [moved(start, seed) for seed in range(3)]
    stacked = {k: torch.stack([s.trainable[k] for s in states]) for k in start.trainable}
    together = torch.func.vmap(lambda trainable: function(dataclasses.replace(start, trainable=trainable)))(stacked)
    torch.testing.assert_close(together, torch.stack([function(s) for s in states]))


@pytest.mark.parametrize("name", ALL)
def test_shapes_are_known_without_numbers(name, llama):
    places = places_for(llama, small(name), "all-linear")
    real, shapes = (initial_states(small(name), places, meta=meta) for meta in (False, True))
    assert real.keys() == shapes.keys()
    for path, state in real.items():
        for own, other in ((state.trainable, shapes[path].trainable), (state.frozen, shapes[path].frozen)):
            assert {k: (t.shape, t.dtype) for k, t in own.items()} == {k: (t.shape, t.dtype) for k, t in other.items()}
            assert all(t.is_meta for t in other.values())


@pytest.mark.parametrize("name", [name for name in NAMES if small(name).size_knob])
def test_sized_comes_nearest_below_the_budget(name, llama):
    method = small(name)
    budget = 3 * parameter_count(llama, dataclasses.replace(method, **{method.size_knob: 2}))
    best = sized(method, llama, budget)
    size = getattr(best, method.size_knob)
    larger = dataclasses.replace(method, **{method.size_knob: size + 1})
    assert parameter_count(llama, best) <= budget
    assert parameter_count(llama, larger) > budget
