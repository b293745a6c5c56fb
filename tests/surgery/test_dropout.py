"""Dropout on what an adapter adds, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear as affine

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, seeded
from tests.conftest import tiny_llama

DROPPED = adapter("lora", rank=3, dropout=0.5)


def trained(model, method):
    handle = attach(model, method)
    with torch.no_grad():
        for p in handle.parameters():
            p.normal_(0, 0.2, generator=torch.Generator().manual_seed(p.numel()))
    return handle


def test_only_what_the_adapter_adds_is_dropped():
    layer = torch.nn.Sequential(torch.nn.Linear(6, 5))
    handle = trained(layer, adapter("lora", rank=2, dropout=0.25))
    (site,) = handle.sites.values()
    x = torch.randn(4, 6)
    base = affine(x, layer[0].weight, layer[0].bias)
    with seeded(3):
        answer = layer.train()(x)
    with seeded(3):
        dropped = torch.nn.functional.dropout(x, 0.25)
    added = affine(affine(dropped, site.state["a"]), site.state["b"]) * handle.adapter.scale
    torch.testing.assert_close(answer, base + added)


def test_a_model_that_does_not_train_drops_nothing(tokens):
    model, plain = tiny_llama(), tiny_llama()
    trained(model, DROPPED)
    trained(plain, adapter("lora", rank=3))
    assert torch.equal(model.eval()(tokens).logits, plain.eval()(tokens).logits)
    assert not torch.allclose(model.train()(tokens).logits, plain(tokens).logits, atol=1e-4)


def test_the_same_seed_drops_the_same(tokens):
    model = tiny_llama().train()
    trained(model, DROPPED)
    before = torch.get_rng_state()
    answers = []
    for seed in (1, 1, 2):
        with seeded(seed):
            answers.append(model(tokens).logits)
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_gradient_checkpointing_draws_the_same_mask_again(tokens):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_llama().train()
        handle = trained(model, DROPPED)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with seeded(5):
            model(input_ids=tokens, labels=tokens).loss.backward()
        gradients.append([p.grad for p in handle.parameters()])
    torch.testing.assert_close(*gradients)


def test_a_chance_of_one_is_refused(llama):
    with pytest.raises(AdapterlabError, match=r"dropout 1\.0 is not a probability"):
        attach(llama, adapter("lora", rank=3, dropout=1.0))
