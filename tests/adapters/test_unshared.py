"""Controls without shared directions: every layer draws its own, and nothing else changes."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import linear

from adapterlab.adapters import adapter
from adapterlab.adapters.peft_layout import CannotExportError
from adapterlab.surgery import attach, load, load_peft, parameter_count
from tests.adapters.methods import small
from tests.conftest import tiny_llama

NAMES = ["vera", "randlora"]


def unshared(name: str):
    return replace(small(name), shared=False)


@pytest.fixture
def tokens():
    return torch.arange(12)[None] % 50


def frozen(handle, key: str) -> list[torch.Tensor]:
    return [site.state[key] for site in handle.sites.values()]


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_has_its_own_directions_and_as_many_trained_parameters(name, tokens):
    model = tiny_llama()
    before = model(tokens).logits
    handle = attach(model, unshared(name), seed=0)
    torch.testing.assert_close(model(tokens).logits, before, rtol=0, atol=0)
    assert handle.parameter_count == parameter_count(tiny_llama(), small(name))
    for key in ("a", "b"):
        own = frozen(handle, key)
        assert len({tensor.data_ptr() for tensor in own}) == len(own)
        for one, other in itertools.combinations(own, 2):
            rows, columns = (min(sides) for sides in zip(one.shape, other.shape, strict=True))
            assert not torch.equal(one[:rows, :columns], other[:rows, :columns])


@pytest.mark.parametrize("name", NAMES)
def test_the_directions_are_drawn_from_the_distribution_of_the_shared_ones(name):
    both = [attach(tiny_llama(), method, seed=1) for method in (small(name), unshared(name))]
    for key in ("a", "b"):
        shared, own = (torch.cat([t.flatten() for t in frozen(handle, key)]) for handle in both)
        assert own.std() == pytest.approx(shared.std().item(), rel=0.1)
        assert own.abs().max() == pytest.approx(shared.abs().max().item(), rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_the_weight_is_that_of_the_definition_with_the_layers_own_matrices(name):
    model = tiny_llama()
    handle = attach(model, unshared(name), seed=0)
    generator = torch.Generator().manual_seed(0)
    for found in handle.sites.values():
        state = found.state
        for tensor in state.trainable.values():
            tensor.data += 0.1 * torch.randn(tensor.shape, generator=generator)
        weight = found.base_and_adapted()[0].detach()
        layer = torch.nn.Linear(*reversed(weight.shape), bias=False)
        layer.weight.data = weight
        x = torch.randn(3, weight.shape[1], generator=generator)
        if name == "vera":
            change = torch.diag(state["gain_b"]) @ state["b"] @ torch.diag(state["gain_d"]) @ state["a"]
        else:
            rank, n = handle.adapter.rank, len(state["gamma"])
            change = sum(
                state["b"][:, j * rank : (j + 1) * rank]
                @ torch.diag(state["lambda"][j])
                @ state["a"]
                @ torch.diag(state["gamma"][j])
                for j in range(n)
            ) * (handle.adapter.alpha / rank)
            change = change if weight.shape[0] >= weight.shape[1] else change.T
        torch.testing.assert_close(handle.adapter.weight(state, weight), weight + change, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            handle.adapter.forward(state, x, layer), linear(x, weight + change), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", NAMES)
def test_it_is_saved_with_its_directions_and_written_for_peft_as_a_lora_if_it_has_a_low_rank(name, tokens, tmp_path):
    model = tiny_llama()
    handle = attach(model, unshared(name), seed=0)
    for parameter in handle.parameters():
        parameter.data += 0.1
    expected = model(tokens).logits
    handle.save(tmp_path)
    again = tiny_llama()
    assert load(again, tmp_path).adapter == handle.adapter
    torch.testing.assert_close(again(tokens).logits, expected)
    if name == "randlora":
        with pytest.raises(CannotExportError, match="for all layers, here each has its own"):
            handle.export_peft(tmp_path / "peft")
        return
    handle.export_peft(tmp_path / "peft")
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    third = tiny_llama()
    load_peft(third, tmp_path / "peft")
    torch.testing.assert_close(third(tokens).logits, expected, rtol=1e-4, atol=1e-4)


def test_it_is_a_setting_that_a_test_may_name():
    from adapterlab.verdict.wanted import Wanted

    wanted = Wanted.parse("vera(shared=false)")
    wanted.check("here")
    assert wanted.fits(adapter("vera", shared=False))
    assert not wanted.fits(adapter("vera"))
