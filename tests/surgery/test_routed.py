"""Adapters that are mixed anew in every call."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, load, load_experts
from tests.adapters.methods import noisy
from tests.conftest import tiny_llama


def test_each_sequence_follows_its_task(llama, tokens):
    handle = attach(llama, adapter("poly", rank=2, tasks=3, skills=2))
    noisy(handle.parameters())
    both = llama(input_ids=tokens, task_ids=torch.tensor([0, 2])).logits
    for task, row in ((0, 0), (2, 1)):
        alone = llama(input_ids=tokens[row : row + 1], task_ids=torch.tensor([task])).logits
        torch.testing.assert_close(both[row : row + 1], alone)
        handle.sites["router"].task = task
        torch.testing.assert_close(llama(tokens[row : row + 1]).logits, alone)
    assert not torch.allclose(both[1], llama(input_ids=tokens, task_ids=torch.tensor([0, 0])).logits[1], atol=1e-3)


@pytest.mark.parametrize(
    ("task_ids", "message"),
    [
        (torch.tensor([0, 3]), r"task_ids \[3\]: poly has 3 tasks, 0 to 2"),
        (torch.tensor([-1, 5]), r"task_ids \[-1, 5\]"),
        (torch.tensor([0]), r"must be 2 whole numbers, one for each sequence, not \(1,\)"),
        (torch.tensor([0.0, 1.0]), "not .* torch.float32"),
        ([0, 1], r"not \[0, 1\]"),
    ],
)
def test_a_task_that_is_not_known_is_named(task_ids, message, llama, tokens):
    attach(llama, adapter("poly", rank=2, tasks=3))
    with pytest.raises(AdapterlabError, match=message):
        llama(input_ids=tokens, task_ids=task_ids)
    llama(input_ids=tokens, task_ids=torch.tensor([0, 2]))


def test_one_router_serves_all_layers_or_each_has_its_own(llama):
    own = attach(llama, adapter("poly", tasks=2, skills=3, splits=2, rank=2))
    assert own.sites["router"].logits.shape == (14, 2, 2, 3)
    own.detach()
    one = attach(llama, adapter("poly", tasks=2, skills=3, splits=2, rank=2, one_router=True))
    assert one.sites["router"].logits.shape == (1, 2, 2, 3)


def test_skills_are_chosen_with_noise_in_training_alone(tokens):
    model = tiny_llama()
    handle = attach(model, adapter("poly", rank=2, skills=3))
    noisy(handle.parameters())
    assert torch.equal(model(tokens).logits, model(tokens).logits)
    model.train()
    assert not torch.equal(model(tokens).logits, model(tokens).logits)


def test_experts_may_be_frozen(llama, tokens):
    handle = attach(llama, adapter("xlora", experts=2, rank=2, train_experts=False))
    assert handle.parameter_count == 32 * 2 + 2
    llama(input_ids=tokens, labels=tokens).loss.backward()
    assert all(p.grad is not None for p in handle.parameters())


@pytest.mark.parametrize("name", ["xlora", "poly"])
def test_two_calls_before_backward_under_checkpointing(name, tokens):
    """A block run again is run with the shares of its own call, not of the last."""
    gradients = []
    for checkpointing in (False, True):
        model = tiny_llama().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        settings = {"relaxed": False, "tasks": 2} if name == "poly" else {}
        handle = attach(model, adapter(name, rank=2, **settings))
        noisy(handle.parameters())
        calls = [{"task_ids": torch.tensor([i, i])} if name == "poly" else {} for i in (0, 1)]
        a, b = (
            model(input_ids=t, labels=t, **call).loss for t, call in zip((tokens, tokens.flip(1)), calls, strict=True)
        )
        (a - b).backward()
        gradients.append([p.grad for p in handle.parameters()])
        handle.detach()
        model(input_ids=tokens, labels=tokens)
    torch.testing.assert_close(*gradients)


def test_a_saved_router_comes_back(tmp_path, tokens):
    model = tiny_llama()
    handle = attach(model, adapter("xlora", experts=2, rank=2, depth=2, hidden=8, top_k=1, train_experts=False))
    noisy([*handle.parameters(), *(b for s in handle.sites.values() for b in s.buffers())])
    handle.save(tmp_path)
    other = tiny_llama()
    load(other, tmp_path)
    assert torch.equal(other(tokens).logits, model(tokens).logits)


def test_trained_low_rank_adapters_become_the_experts(tmp_path, tokens):
    model, alone = tiny_llama(), []
    for expert in range(2):
        handle = attach(model, adapter("lora", rank=2), seed=expert)
        noisy(handle.parameters(), 0.1 * (1 + expert))
        handle.save(tmp_path / str(expert))
        alone.append(model(tokens).logits)
        handle.detach()
    mixture = attach(model, adapter("xlora", rank=2, experts=2, train_experts=False))
    load_experts(mixture, [tmp_path / "0", tmp_path / "1"])
    router = mixture.sites["router"]
    for expert in range(2):
        with torch.no_grad():
            router.w0.zero_()
            router.b0.copy_(torch.tensor([100.0, 0.0] if expert == 0 else [0.0, 100.0]))
        torch.testing.assert_close(model(tokens).logits, alone[expert])
    with pytest.raises(AdapterlabError, match="has 2 experts, and 1 folders were given"):
        load_experts(mixture, [tmp_path / "0"])
    mixture.detach()
    other = attach(model, adapter("xlora", rank=3, experts=1))
    with pytest.raises(AdapterlabError, match="an expert must be a lora"):
        load_experts(other, [tmp_path / "0"])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("poly", {"splits": 3}, "splits 3 does not divide a side of 16"),
        ("poly", {"skills": 0}, "must be 1 or more"),
        ("xlora", {"top_k": 9}, "top_k at most experts"),
        ("xlora", {"rank": 99}, "give 1 to 16"),
    ],
)
def test_what_does_not_fit_is_named(name, settings, message, llama):
    structure = repr(llama)
    with pytest.raises(AdapterlabError, match=message):
        attach(llama, adapter(name, **settings))
    assert repr(llama) == structure


def test_a_cache_that_the_router_never_saw_is_named(llama, tokens):
    cache = llama(tokens, use_cache=True).past_key_values
    attach(llama, adapter("xlora", rank=2))
    with pytest.raises(AdapterlabError, match="12 positions that the router never saw"):
        llama(tokens[:, :1], past_key_values=cache)
