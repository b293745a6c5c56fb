"""New heads: initialized as by transformers, trained fully, and restored by detach."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification

import adapterlab
from adapterlab.surgery.model.new_heads import initialize, mark_new_heads, new_head_modules, new_head_parameters


def classifier(hidden: int = 256, labels: int = 200) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_labels=labels,
        pad_token_id=0,
    )
    return LlamaForSequenceClassification(config)


@pytest.fixture
def model() -> LlamaForSequenceClassification:
    model = classifier()
    mark_new_heads(model, ["score.weight"])
    return model


def test_a_new_head_has_the_standard_deviation_of_transformers(model):
    """A deviation of n normal numbers is known to within a share of 1 / sqrt(2 n), a mean to s / sqrt(n)."""
    wide = model.config.initializer_range
    assert wide == LlamaConfig().initializer_range == 0.02
    theirs, n = model.score.weight.detach().clone(), model.score.weight.numel()
    adapterlab.attach(model, adapterlab.adapter("lora"), seed=3)
    ours = model.score.weight.detach()
    for drawn in (theirs, ours):
        assert drawn.std().item() == pytest.approx(wide, rel=5 / math.sqrt(2 * n))
        assert abs(drawn.mean().item()) < 5 * wide / math.sqrt(n)
        assert (drawn.abs() < wide).float().mean().item() == pytest.approx(0.6827, abs=5 * 0.47 / math.sqrt(n))
    assert not torch.equal(ours, theirs)


def test_the_seed_alone_decides_the_head(model):
    heads = []
    for seed in (3, 3, 4):
        handle = adapterlab.attach(model, adapterlab.adapter("lora"), seed=seed)
        heads.append(model.score.weight.detach().clone())
        handle.detach()
        torch.randn(5)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_detaching_puts_the_head_back_and_marking_names_it(model):
    before = model.score.weight.detach().clone()
    handle = adapterlab.attach(model, adapterlab.adapter("lora"))
    assert list(handle.new_heads) == ["score.weight"]
    assert [p is model.score.weight for p in handle.parameters()].count(True) == 1
    assert model.score.weight.requires_grad
    handle.detach()
    assert torch.equal(model.score.weight, before)
    assert (new_head_modules(model), list(new_head_parameters(model))) == ({"score"}, ["score.weight"])
    assert (new_head_modules(classifier()), new_head_parameters(classifier())) == (set(), {})


def test_biases_start_at_zero_and_gains_at_one():
    head = nn.ModuleDict({"dense": nn.Linear(4, 3), "norm": nn.LayerNorm(3)})
    parameters = {name: nn.Parameter(torch.full_like(p, 9.0)) for name, p in head.named_parameters()}
    initialize(parameters, seed=0, std=1.0)
    assert parameters["dense.bias"].tolist() == [0, 0, 0]
    assert parameters["norm.bias"].tolist() == [0, 0, 0]
    assert parameters["norm.weight"].tolist() == [1, 1, 1]
    expected = torch.empty(3, 4).normal_(0.0, 1.0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(parameters["dense.weight"], expected)
