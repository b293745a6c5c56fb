"""Trained parameters as the papers' own tables count them, on models of the published shapes."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from adapterlab.adapters import adapter
from adapterlab.surgery import parameter_count

LLAMA = {
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "13B": {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}


def llama(size, **changes):
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**(LLAMA[size] | changes), tie_word_embeddings=False))


@pytest.mark.parametrize(
    ("size", "percent"),
    [("7B", 0.031), ("13B", 0.025), ("8B", 0.026)],
    ids=["Wu 2024, table 1, LLaMA-7B", "Wu 2024, table 1, LLaMA-13B", "Wu 2024, table 1, Llama-3 8B"],
)
@pytest.mark.parametrize("variant", ["loreft", "direft"])
def test_reft(size, percent, variant):
    """Rank 8 in all layers, tied positions (appendix D.2)."""
    model = llama(size)
    share = parameter_count(model, adapter("reft", rank=8, variant=variant)) / model.num_parameters()
    assert round(100 * share, 3) == percent


def test_clover():
    """Meng 2024, appendix A.2: one layer of LLaMA-2 7B, Q-K, V-O and blocks of 64 hidden units."""
    count = parameter_count(llama("7B", num_hidden_layers=1), adapter("clover", mlp_block=64))
    assert count == 1_753_088


@pytest.mark.parametrize(
    ("size", "percent"),
    [("7B", 0.83), ("13B", 0.67), ("8B", 0.47)],
    ids=["Meng 2024, table 2, LLaMA-7B", "Meng 2024, table 2, LLaMA-13B", "Meng 2024, table 2, LLaMA3-8B"],
)
def test_clover_shares(size, percent):
    """Keys alone under the rotation, and one core for the query heads that share a key-value head."""
    model = llama(size)
    assert round(100 * parameter_count(model, adapter("clover")) / model.num_parameters(), 2) == percent


@pytest.mark.parametrize(("size", "percent"), [("7B", 0.039), ("13B", 0.031)])
def test_prefix(size, percent):
    """Wu 2024, table 1, after Hu 2023: PrefT, ten tokens in every layer."""
    model = llama(size)
    share = parameter_count(model, adapter("prefix", length=10, reparametrized=False)) / model.num_parameters()
    assert round(100 * share, 3) == percent
    assert parameter_count(model, adapter("ptuning_v2", length=10)) == parameter_count(
        model, adapter("prefix", length=10, reparametrized=False)
    )


def test_llama_adapter():
    """Zhang 2023, abstract: 1.2M, ten tokens in the topmost 30 of 32 layers, which is the default."""
    count = parameter_count(llama("7B"), adapter("llama_adapter"))
    assert count == parameter_count(llama("7B"), adapter("llama_adapter", length=10, layers=30))
    assert round(count / 1e6, 1) == 1.2


def test_prompt():
    """Hu 2021, table 4: PreEmbed on GPT-3 trains 3.2M, 256 tokens before and 8 behind the input, 12,288 wide."""
    config = GPT2Config(n_embd=12288, n_layer=1, n_head=96)
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    assert round(parameter_count(model, adapter("prompt", length=256 + 8)) / 1e6, 1) == 3.2
