"""Merged scoring gives the scores of the attached adapter and leaves the base as it was."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import all_adapters
from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.merged import can_merge, merged
from adapterlab.surgery import attach
from adapterlab.surgery.handle import Handle
from tests.adapters.methods import ALL, noisy, small
from tests.conftest import tiny_llama

MERGEABLE = [name for name in ALL if all_adapters()[name].mergeable]


def attached(name: str, dtype: torch.dtype = torch.float64):
    model = tiny_llama().to(dtype)
    handle = attach(model, small(name))
    noisy(handle.parameters())
    return model, handle


def bits(model):
    return {name: (id(p), p.detach().clone()) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", MERGEABLE)
def test_a_merged_model_answers_as_the_attached_adapter_and_the_base_returns_bit_for_bit(name, tokens):
    model, handle = attached(name)
    strengths = [s for s in (1.0, 0.5, 0.0, 1.25) if handle.adapter.strength_problem(s) is None]
    wanted = {}
    with torch.no_grad():
        for strength in strengths:
            handle.strength = strength
            wanted[strength] = model(tokens).logits
        handle.strength = 1.0
        before = bits(model)
        with merged(handle) as control:
            for strength in strengths:
                control.strength = strength
                assert any(site.merged for site in handle.sites.values()) == (strength != 0)
                torch.testing.assert_close(model(tokens).logits, wanted[strength], rtol=1e-6, atol=1e-8)
            control.strength = 1.0
        assert not any(site.merged for site in handle.sites.values())
        assert torch.equal(model(tokens).logits, wanted[1.0])
    for key, (parameter, values) in bits(model).items():
        assert parameter == before[key][0]
        assert torch.equal(values, before[key][1])


@pytest.mark.parametrize(("name", "dtype"), [("reft", torch.float64), ("lora", torch.bfloat16)])
def test_what_cannot_be_merged_without_loss_is_scored_as_it_is_attached(name, dtype):
    _, handle = attached(name, dtype)
    assert not can_merge(handle)
    with merged(handle) as control:
        assert control is handle


def test_merged_weights_that_do_not_fit_in_memory_are_done_without(monkeypatch, tokens):
    model, handle = attached("lora")
    wanted, merge = model(tokens).logits, Handle.merge

    def runs_out(self):
        merge(self)
        raise MemoryError

    monkeypatch.setattr(Handle, "merge", runs_out)
    with merged(handle) as control:
        assert not any(site.merged for site in handle.sites.values())
        control.strength = 0.5
        control.strength = 1.0
        assert torch.equal(model(tokens).logits, wanted)


def test_a_strength_that_is_refused_leaves_the_adapter_merged_as_it_was(monkeypatch):
    _, handle = attached("oft")
    monkeypatch.setattr(type(handle.adapter), "strength_problem", lambda _, s: "give 0 or more" if s < 0 else None)
    with merged(handle) as control:
        with pytest.raises(AdapterlabError, match="oft: give 0 or more"):
            control.strength = -1.0
        assert control.strength == 1.0
        assert all(site.merged for site in handle.sites.values())


def test_an_error_while_scoring_leaves_the_adapter_unmerged():
    _, handle = attached("lora")
    with pytest.raises(RuntimeError, match="broken"), merged(handle):
        raise RuntimeError("broken")
    assert not any(site.merged for site in handle.sites.values())
