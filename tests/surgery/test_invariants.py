"""Every method is held to what it says of itself, on the embedded model and after training on real text."""

from __future__ import annotations

import copy
import inspect
import textwrap
from functools import cache

import pytest
import torch

from adapterlab.adapters.invariants import Invariant
from adapterlab.adapters.model_invariants import Observed
from adapterlab.models.loading import load_causal
from adapterlab.surgery import attach
from adapterlab.surgery.init.svd_cache import FactorCache
from adapterlab.surgery.model.where import ALL as ALL_PLACES
from tests.adapters.methods import ALL, small
from tests.surgery.test_attach import train

FACTORS = FactorCache()
BLOCK = ["model.layers.1.*"]
RATES = {"fourierft": 0.1}
"""Learning rates, by method, where twenty scalars in each layer need more than the others."""


@cache
def base():
    return load_causal().model


@cache
def lines():
    """Two windows of source text."""
    ids = load_causal().tokenizer(inspect.getsource(textwrap)).input_ids
    return torch.tensor(ids[: 2 * 40]).view(2, 40)


def biased(model):
    """Give queries and values biases, without which some methods find nothing to adapt."""
    for name, module in model.named_modules():
        if name.endswith(("q_proj", "v_proj")):
            module.bias = torch.nn.Parameter(torch.linspace(-0.1, 0.1, module.out_features))
    return model


def observed(model, handle, before):
    answer, parameters = before
    with torch.no_grad():
        now = model(lines()).logits
    router = handle.sites.get("router")
    return Observed(
        answer,
        now,
        parameters,
        {name: p for name, p in model.named_parameters() if name in parameters},
        handle.deltas(),
        router.shares.current if router is not None else None,
    )


def broken(method, model, handle, before, at_start):
    """The properties that do not hold, with how far they are from it."""
    found = {}
    for invariant in method.invariants:
        if invariant.only_at_start and not at_start:
            continue
        if isinstance(invariant, Invariant):
            nothing = torch.empty(0, 0), torch.empty(0, 0)
            tensors = ((site.state, *(site.base_and_adapted() or nothing)) for site in handle.sites.values())
            residual = max(invariant.residual(method, state, a.detach(), b.detach()) for state, a, b in tensors)
        else:
            residual = invariant.residual(observed(model, handle, before))
        if not residual <= invariant.bound(torch.float32):
            found[str(invariant)] = residual
    return found


@pytest.mark.parametrize("name", ALL)
def test_what_a_method_preserves_it_preserves_when_trained(name):
    method = small(name)
    assert method.invariants, f"{name} claims nothing"
    model = copy.deepcopy(base())
    if name == "bitfit":
        model = biased(model)
    with torch.no_grad():
        before = model(lines()).logits, {name: p.clone() for name, p in model.named_parameters()}
    targets = ALL_PLACES if name in ("prompt", "trainable_tokens", "reft") else BLOCK
    handle = attach(model, method, targets, factors=FACTORS)
    assert not broken(method, model, handle, before, at_start=True)
    train(model, handle, lines(), steps=3, lr=RATES.get(name, 3e-3))
    assert not torch.allclose(model(lines()).logits, before[0], atol=1e-3)
    assert not broken(method, model, handle, before, at_start=False)
