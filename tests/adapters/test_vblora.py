"""What is special to VB-LoRA: one bank for all, and a file of indices and weights."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from adapterlab.adapters import adapter
from adapterlab.surgery import attach, load
from tests.conftest import tiny_llama
from tests.surgery.test_attach import train

SETTINGS = {"rank": 2, "vectors": 12, "length": 4, "top": 3}


def test_all_sites_train_one_bank(llama):
    handle = attach(llama, adapter("vblora", **SETTINGS))
    assert len({id(site.state["bank"]) for site in handle.sites.values()}) == 1


def test_a_stretch_is_a_mixture_of_the_top_vectors():
    method = adapter("vblora", **SETTINGS)
    weights = method.mixture(torch.randn(5, 12, dtype=torch.float64))
    assert ((weights > 0).sum(-1) == 3).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, dtype=torch.float64))


def test_a_file_holds_the_bank_indices_and_weights_alone(tmp_path, llama, tokens):
    handle = attach(llama, adapter("vblora", **SETTINGS))
    train(llama, handle, tokens)
    handle.save(tmp_path)
    stored = load_file(tmp_path / "adapter.safetensors")
    kinds = {key.rpartition("/")[2] for key in stored}
    assert kinds == {"bank", "chosen_a", "chosen_b", "gaps_a", "gaps_b"}
    assert sum(key.endswith("/bank") for key in stored) == 1
    for key, tensor in stored.items():
        if "chosen" in key:
            assert tensor.dtype == torch.uint8
            assert tensor.shape[-1] == 3
        elif "gaps" in key:
            assert tensor.shape[-1] == 2


def test_a_loaded_adapter_trains_what_was_chosen(tmp_path, llama, tokens):
    handle = attach(llama, adapter("vblora", **SETTINGS))
    train(llama, handle, tokens)
    handle.save(tmp_path)
    other = tiny_llama()
    loaded = load(other, tmp_path)
    assert len({id(site.state["bank"]) for site in loaded.sites.values()}) == 1
    before = {path: site.state["logits_a"].topk(3).indices.sort().values for path, site in loaded.sites.items()}
    train(other, loaded, tokens)
    assert not torch.equal(other(tokens).logits, llama(tokens).logits)
    for path, site in loaded.sites.items():
        assert torch.equal(site.state["logits_a"].topk(3).indices.sort().values, before[path])
