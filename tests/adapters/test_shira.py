"""Which weights SHiRA's masks leave free."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from adapterlab.surgery.sizing import parameter_count
from tests.adapters.methods import context
from tests.conftest import tiny_gpt2, tiny_llama


def chosen(handle):
    return {path: set(site.state["entries"].tolist()) for path, site in handle.sites.items()}


def largest(score, count):
    flat = score.abs().flatten()
    return set(flat.argsort(descending=True)[:count].tolist())


def test_random_entries_are_distinct_and_as_many_as_a_lora_trains(llama):
    handle = attach(llama, adapter("shira", rank=3))
    for site in handle.sites.values():
        assert len(site.state["entries"].unique()) == len(site.state["values"])
    assert handle.parameter_count == parameter_count(tiny_llama(), adapter("lora", rank=3))


def test_magnitude_takes_the_largest_weights(llama):
    handle = attach(llama, adapter("shira", rank=1, mask="magnitude"))
    for path, entries in chosen(handle).items():
        weight = llama.get_submodule(path).weight
        assert entries == largest(weight, sum(weight.shape))


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("mask", ["gradient", "snip"])
def test_gradient_masks_follow_the_loss(mask, make, tokens):
    model, twin = make(), make()
    calls = []

    def loss():
        calls.append(1)
        return model(input_ids=tokens, labels=tokens).loss

    handle = attach(model, adapter("shira", rank=1, mask=mask), loss=loss)
    assert len(calls) == 1
    assert all(p.grad is None for p in model.parameters())
    twin(input_ids=tokens, labels=tokens).loss.backward()
    for path, entries in chosen(handle).items():
        weight = twin.get_submodule(path).weight
        score, weight = (t.T if isinstance(model, type(tiny_gpt2())) else t for t in (weight.grad, weight.detach()))
        expected = largest(score if mask == "gradient" else score * weight, sum(weight.shape))
        assert len(entries & expected) >= len(expected) - 1  # two scores may be alike but for rounding


def test_struct_is_the_diagonal_and_whole_rows():
    weight = torch.zeros(12, 8)
    state = adapter("shira", rank=2, mask="struct").init(weight, context(weight))
    free = weight.flatten().index_fill(0, state["entries"], 1.0).view_as(weight)
    assert free.diagonal().all()
    rows = free.sum(1)
    assert sorted(rows.unique().tolist()) == [0, 1, 8]
    assert int((rows == 8).sum()) == (2 * 20 - 8) // 8
    changed = free * torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(changed) == 8
    assert len(
        adapter("shira", rank=2, mask="struct").init(weight.to("meta"), context(weight.to("meta")))["entries"]
    ) == len(state["entries"])


def test_a_gradient_mask_without_a_loss_says_what_to_give(llama):
    structure = repr(llama)
    with pytest.raises(AdapterlabError, match=r"attach\(\.\.\., loss="):
        attach(llama, adapter("shira", rank=1, mask="snip"))
    assert repr(llama) == structure


def test_a_loss_of_something_else_is_refused(llama):
    flags = [p.requires_grad for p in llama.parameters()]
    with pytest.raises(AdapterlabError, match="does not depend on the model"):
        attach(llama, adapter("shira", rank=1, mask="snip"), loss=lambda: torch.zeros(()))
    assert [p.requires_grad for p in llama.parameters()] == flags


@pytest.mark.parametrize(
    ("settings", "message"), [({"mask": "best"}, "not one of random"), ({"rank": 99}, "give 1 to 10")]
)
def test_what_cannot_be_chosen_is_refused(settings, message, llama):
    with pytest.raises(AdapterlabError, match=message):
        attach(llama, adapter("shira", **settings))


@pytest.mark.parametrize("mask", ["magnitude", "gradient", "snip", "struct"])
def test_every_mask_is_saved_and_loaded(mask, tmp_path, tokens):
    from adapterlab.surgery import load

    model = tiny_llama()
    handle = attach(
        model, adapter("shira", rank=1, mask=mask), loss=lambda: model(input_ids=tokens, labels=tokens).loss
    )
    with torch.no_grad():
        for p in handle.parameters():
            p.fill_(0.1)
    handle.save(tmp_path)
    other = tiny_llama()
    load(other, tmp_path)
    assert torch.equal(other(tokens).logits, model(tokens).logits)
