"""Prompts, prefixes and tokens against PEFT: the same tensors give the same logits and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, TrainableTokensConfig, get_peft_model

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.conftest import tiny_gpt2, tiny_llama

MODELS = {
    "llama": lambda: tiny_llama().double(),
    "llama without groups": lambda: tiny_llama(num_key_value_heads=4, tie_word_embeddings=False).double(),
    "gpt2": lambda: tiny_gpt2().double(),
}


def same_answer(ours, theirs, tokens, pairs, *, counts_padding=False):
    """Logits and the gradients of `pairs` (our parameter, their parameter, and ours seen as theirs) agree.

    The first row has padding on the left. PEFT is given it without, since it counts padding as positions; `counts_padding`
    is for methods that do not add keys, for which both leave the positions to the model.
    """
    mask = torch.ones_like(tokens)
    mask[0, :3] = 0
    rest = tokens.shape[1] - 3
    own = ours(input_ids=tokens, attention_mask=mask).logits[:, -rest:]
    parts = [(tokens, mask)] if counts_padding else [(t, torch.ones_like(t)) for t in (tokens[:1, 3:], tokens[1:])]
    single = [theirs(input_ids=ids, attention_mask=seen) for ids, seen in parts]
    other = torch.cat([answer.logits[:, -rest:] for answer in single])
    torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-9)
    for answer in (own, other):
        answer.square().mean().backward()
    for own, other, seen in pairs:
        torch.testing.assert_close(seen(own.grad), other.grad, rtol=1e-6, atol=1e-12)


def plain(gradient):
    return gradient


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_prompt(make, tokens):
    model = make()
    theirs = get_peft_model(
        copy.deepcopy(model),
        PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=5, token_dim=32, num_layers=2, num_attention_heads=4
        ),
    ).double()
    handle = attach(model, adapter("prompt", length=5))
    (prompt,) = handle.parameters()
    other = theirs.prompt_encoder["default"].embedding.weight
    other.data.copy_(prompt.data)
    same_answer(model, theirs, tokens, [(prompt, other, plain)])


@pytest.mark.parametrize("name", ["prefix", "ptuning_v2"])
@pytest.mark.parametrize(
    ("kind", "reparametrized"), [*((kind, False) for kind in MODELS), ("llama without groups", True), ("gpt2", True)]
)
def test_prefix(kind, name, reparametrized, tokens):
    """With grouped queries PEFT makes the embedding that is reparametrized as narrow as the keys; here it is not."""
    model = MODELS[kind]()
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=5, prefix_projection=reparametrized, encoder_hidden_size=12
    )
    theirs = get_peft_model(copy.deepcopy(model), config).double().eval()
    handle = attach(model, adapter(name, length=5, reparametrized=reparametrized, hidden=12))
    encoder, sites = theirs.prompt_encoder["default"], list(handle.sites.values())
    rows = sites[0].prefix().key.shape[1]
    for layer, site in enumerate(sites):
        first = slice(2 * layer * rows, (2 * layer + 2) * rows)
        with torch.no_grad():
            if reparametrized:
                encoder.transform[2].weight[first] = site.w_out
                encoder.transform[2].bias[first] = site.b_out
            else:
                encoder.embedding.weight[:, first] = torch.cat([site.key, site.value], dim=1)
    if reparametrized:
        site = sites[0]
        with torch.no_grad():
            encoder.embedding.weight.copy_(site.embedding)
            encoder.transform[0].weight.copy_(site.w_in)
            encoder.transform[0].bias.copy_(site.b_in)
        pairs = [
            (site.embedding, encoder.embedding.weight, plain),
            (site.w_in, encoder.transform[0].weight, plain),
            (site.b_in, encoder.transform[0].bias, plain),
            (site.w_out, encoder.transform[2].weight, lambda g: torch.cat([g, sites[1].w_out.grad])),
        ]
    else:
        every = [p for site in sites for p in (site.key, site.value)]
        pairs = [(every[0], encoder.embedding.weight, lambda g: torch.cat([p.grad for p in every], dim=1))]
    same_answer(model, theirs, tokens, pairs)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_trainable_tokens(make, tokens):
    model = make()
    ids = sorted({int(i) for i in tokens[0, :4]})
    targets = ["wte"] if hasattr(model, "transformer") else ["embed_tokens"]
    theirs = get_peft_model(
        copy.deepcopy(model), TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=ids, target_modules=targets)
    )
    handle = attach(model, adapter("trainable_tokens", ids=tuple(ids)))
    (rows,) = handle.parameters()
    (other,) = [p for name, p in theirs.named_parameters() if "trainable_tokens_delta" in name]
    with torch.no_grad():
        rows += torch.randn(rows.shape, generator=torch.Generator().manual_seed(0), dtype=rows.dtype)
        other.copy_(rows)
    same_answer(model, theirs, tokens, [(rows, other, plain)], counts_padding=True)
    handle.merge()
    merged = model.get_input_embeddings().weight.detach()
    theirs.merge_adapter()
    torch.testing.assert_close(
        merged, theirs.base_model.model.get_input_embeddings().base_layer.weight.detach(), rtol=1e-6, atol=1e-12
    )
