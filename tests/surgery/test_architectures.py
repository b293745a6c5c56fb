"""The sites are found by structure, on decoders of many makes."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, load
from tests.adapters.methods import noisy, small
from tests.surgery.test_attach import bits, same_bits, train

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
OLD = {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}
CONFIGS = {
    "Qwen3": SHAPE | {"head_dim": 8},  # norms on queries and keys
    "Phi3": SHAPE,  # one layer for queries, keys and values
    "GPTNeoX": SHAPE,  # the same, head by head
    "Gemma2": SHAPE | {"head_dim": 16},  # heads wider than the stream, softcap, sliding windows
    "OPT": SHAPE | {"ffn_dim": 48, "word_embed_proj_dim": 32},  # a decoder within the decoder, tokens flattened
    "Bloom": OLD,  # no rotation, attention of its own
    "Falcon": SHAPE,  # one key-value head for all
}
NEW_KINDS = ["clover", "reft", "xlora", "poly", "prompt", "prefix", "llama_adapter", "trainable_tokens"]


@pytest.mark.filterwarnings("ignore:.* leaves out transformer.h.0.self_attention.dense")  # Bloom may read its weight
@pytest.mark.parametrize("name", NEW_KINDS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_it_attaches_adapts_and_leaves(kind, name, tokens):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**CONFIGS[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    before, structure, answer = bits(model), repr(model), model(tokens).logits
    if kind in ("Bloom", "Falcon") and name in ("prefix", "llama_adapter"):
        with pytest.raises(AdapterlabError, match="does not attend through transformers' attention functions"):
            attach(model, small(name))
    else:
        handle = attach(model, small(name))
        if handle.adapter.starts_as_base:
            torch.testing.assert_close(model(tokens).logits, answer, rtol=1e-4, atol=1e-5)
        noisy(handle.parameters())
        assert not torch.allclose(model(tokens).logits, answer, atol=1e-4)
        handle.detach()
    assert same_bits(bits(model), before)
    assert repr(model) == structure
    assert torch.equal(model(tokens).logits, answer)


def test_an_encoder_decoder_is_named(tokens):
    config = transformers.T5Config(vocab_size=64, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    model = transformers.T5ForConditionalGeneration(config)
    with pytest.raises(AdapterlabError, match="has an encoder and a decoder"):
        attach(model, small("prompt"))


def test_a_model_without_attention_is_named():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with pytest.raises(AdapterlabError, match="no list of blocks"):
        attach(model, small("reft"))


TRAINED = {
    "Llama": SHAPE,
    "Mistral": SHAPE,
    "Qwen2": SHAPE,  # biases on queries, keys and values
    "Qwen3": SHAPE | {"head_dim": 8},
    "Gemma": SHAPE | {"head_dim": 16},
    "Gemma2": SHAPE | {"head_dim": 16},
    "GPT2": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},  # Conv1D, transposed
    "Phi": SHAPE,  # a norm for both branches, a bias everywhere
    "Phi3": SHAPE,
    "Mixtral": SHAPE | {"num_local_experts": 4, "num_experts_per_tok": 2},  # experts in parameters of three dimensions
}


@pytest.mark.parametrize("name", ["lora", "hra"])
@pytest.mark.parametrize("kind", TRAINED)
def test_it_trains_and_comes_back_from_disk(kind, name, tokens, tmp_path):
    def fresh():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**TRAINED[kind])).eval()

    model = fresh()
    before, answer = bits(model), model(tokens).logits
    handle = attach(model, small(name))
    start = model(input_ids=tokens, labels=tokens).loss.item()
    train(model, handle, tokens, steps=15)
    trained = model(tokens).logits
    assert model(input_ids=tokens, labels=tokens).loss.item() < start
    handle.save(tmp_path)
    handle.detach()
    assert same_bits(bits(model), before)
    assert torch.equal(model(tokens).logits, answer)
    other = fresh()
    load(other, tmp_path)
    assert torch.equal(other(tokens).logits, trained)


def test_the_experts_of_a_mixture_are_left_as_they_are():
    """transformers keeps them fused, three-dimensional; what reads and writes the stream around them is adapted."""
    model = AutoModelForCausalLM.from_config(transformers.MixtralConfig(**TRAINED["Mixtral"]))
    handle = attach(model, small("lora"))
    assert {path.rsplit(".", 1)[1] for path in handle.sites} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert {p.rsplit(".", 1)[1] for p, t in model.named_parameters() if t.ndim == 3} == {"gate_up_proj", "down_proj"}
