"""Methods whose papers leave their start open, or whose code starts elsewhere: by default they start at the base."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from adapterlab.surgery import attach
from tests.adapters.methods import noisy, small
from tests.adapters.oracles.models import lively
from tests.conftest import tiny_gpt2, tiny_llama

STARTS = [
    ("boft", {}),
    ("boft", {"block_size": 4, "factors": 3, "rescale": True}),
    ("clover", {}),
    ("clover", {"queries": True}),
    ("ssvd", {}),
    ("ssvd", {"rotation": "strict"}),
    ("ssvd", {"rotation": "free"}),
    ("poly", {}),
    ("poly", {"splits": 2, "tasks": 3, "one_router": True}),
    ("xlora", {}),
    ("xlora", {"depth": 2, "hidden": 6, "layerwise": True, "top_k": 2}),
    ("llama_adapter", {}),
    ("llama_adapter", {"per_head": False, "squash": False}),
]


@pytest.mark.parametrize("make", [tiny_gpt2, lambda: tiny_llama(num_key_value_heads=1)])
@pytest.mark.parametrize(("name", "settings"), STARTS)
@pytest.mark.parametrize("training", [False, True])
def test_logits_at_the_start_are_the_bases(name, settings, make, training, tokens):
    """In float64, with biases, and in training mode too, where the shares of Poly are noisy."""
    model = lively(make())
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train(training)
    before = model(tokens).logits
    handle = attach(model, dataclasses.replace(small(name), **settings))
    assert any(site.active for site in handle.sites.values())
    torch.testing.assert_close(model(tokens).logits, before, rtol=1e-10, atol=1e-11)
    noisy(handle.parameters(), 0.2)
    assert not torch.allclose(model(tokens).logits, before, atol=1e-3)
