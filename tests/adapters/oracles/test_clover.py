"""CLOVER against its formula: attention from the dense products of each head, factored and changed in the middle."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

from adapterlab.adapters import adapter
from adapterlab.adapters.adapter_types import Pair
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, parameter_count
from adapterlab.surgery.init.svd_cache import FactorCache
from adapterlab.surgery.model.decoder import Decoder
from tests.adapters.methods import context, noisy
from tests.conftest import tiny_gpt2, tiny_llama

HEADS, WIDTH = 4, 8


def one_key_value_head():
    """Four heads that ask and one that answers, no rotation, biases."""
    torch.manual_seed(0)
    config = GPTBigCodeConfig(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_inner=48)
    return GPTBigCodeForCausalLM(config).eval()


def with_ones(x):
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


def dense_attention(x, scores, outputs, bias):
    """Causal attention of every head, given its dense score form and its dense value-output map."""
    tokens, total = x.shape[0], bias
    mask = torch.full((tokens, tokens), -torch.inf, dtype=x.dtype).triu(1)
    for form, through in zip(scores, outputs, strict=True):
        weights = torch.softmax(with_ones(x) @ form @ with_ones(x).T / math.sqrt(WIDTH) + mask, dim=-1)
        total = total + weights @ (with_ones(x) @ through.T)
    return total


@pytest.mark.parametrize("make", [tiny_gpt2, one_key_value_head])
@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_without_rotation_both_pairs_are_factored(make, strength):
    model = make().double()
    for p in model.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5), dtype=p.dtype)
    attention = model.transformer.h[0].attn
    conv = attention.c_attn
    packed = conv.weight.detach().T if make is tiny_gpt2 else conv.weight.detach()
    wide = with_ones_columns(packed, conv.bias.detach())
    kv = (wide.shape[0] - 32) // 16
    query, key, value = wide.split([32, 8 * kv, 8 * kv])
    out = attention.c_proj.weight.detach().T if make is tiny_gpt2 else attention.c_proj.weight.detach()

    handle = attach(model, adapter("clover", mlp_block=0))
    noisy(handle.parameters())
    handle.strength = strength
    sites = {path.rpartition(".")[2]: s for path, s in handle.sites.items() if ".h.0." in path}
    scores, outputs = [], []
    for head in range(HEADS):
        group = head * kv // HEADS
        own, shared = slice(head * WIDTH, (head + 1) * WIDTH), slice(group * WIDTH, (group + 1) * WIDTH)
        for pair, dense, found in (
            ("query_key", query[own].T @ key[shared], scores),
            ("value_output", out[:, own] @ value[shared], outputs),
        ):
            state = sites[pair].state
            u, v = state["outer"][group].unflatten(0, (HEADS // kv, -1))[head % (HEADS // kv)], state["basis"][group]
            torch.testing.assert_close(u @ state["start"][group] @ v, dense)
            middle = state["start"][group] + strength * (state["core"][group] - state["start"][group])
            found.append(u @ middle @ v)
    x = torch.randn(7, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = dense_attention(x, scores, outputs, attention.c_proj.bias)
    torch.testing.assert_close(attention(x[None])[0][0], expected, rtol=1e-9, atol=1e-11)


def with_ones_columns(weight, bias):
    return torch.cat([weight, bias[:, None]], dim=1)


def test_singular_bases_are_orthonormal_and_the_core_starts_at_the_singular_values():
    model = tiny_gpt2().double()
    handle = attach(model, adapter("clover", mlp_block=0))
    for site in handle.sites.values():
        eye = torch.eye(WIDTH, dtype=torch.float64)
        for basis in (site.basis, site.outer.mT):
            torch.testing.assert_close(basis @ basis.mT, eye.expand(HEADS, -1, -1))
        torch.testing.assert_close(site.core.detach(), torch.diag_embed(site.core.detach().diagonal(dim1=1, dim2=2)))
        assert (site.core.detach().diagonal(dim1=1, dim2=2).diff(dim=1) <= 0).all()


def test_under_rotation_keys_and_hidden_units_have_a_transition(llama):
    """Section 4.2: keys alone, since nothing linear joins them to the queries."""
    handle = attach(llama.double(), adapter("clover", mlp_block=8))
    assert sites_of_the_first_layer(handle) == ["self_attn.key", "self_attn.value_output", "mlp.up_proj"]
    noisy(handle.parameters())
    for path in ("self_attn.key", "mlp.up_proj"):
        site = handle.sites[f"model.layers.0.{path}"]
        before, after = site.base_and_adapted()
        layer = llama.get_submodule(f"model.layers.0.{path.replace('key', 'k_proj')}")
        wide = before if layer.bias is None else with_ones_columns(layer.weight, layer.bias)
        for head, rows in enumerate(wide.split(8)):
            _, _, vt = torch.linalg.svd(rows, full_matrices=False)
            basis = site.basis[head]
            torch.testing.assert_close((basis @ vt.T).abs(), torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-8)
            torch.testing.assert_close(rows @ basis.T, site.start[head])
            changed = rows + (site.core[head] - site.start[head]) @ basis
            torch.testing.assert_close(after[8 * head : 8 * head + 8], changed[:, :32])


def test_the_authors_code_has_a_transition_of_the_queries_too(llama, tokens):
    answer = llama(tokens).logits
    handle = attach(llama, adapter("clover", mlp_block=0, queries=True))
    assert sites_of_the_first_layer(handle) == ["self_attn.key", "self_attn.query", "self_attn.value_output"]
    assert handle.sites["model.layers.0.self_attn.query"].core.shape == (4, 8, 8)
    torch.testing.assert_close(llama(tokens).logits, answer)


def sites_of_the_first_layer(handle):
    return [path.removeprefix("model.layers.0.") for path in handle.sites if ".0." in path]


@pytest.mark.parametrize("make", [tiny_llama, one_key_value_head])
def test_the_whole_change_of_a_pair_fits_into_its_first_map(make, tokens):
    """What deltas() says, added to the base, answers as the adapted model."""
    model = make().double()
    noisy((p for name, p in model.named_parameters() if name.endswith("bias")), 0.1)
    handle = attach(model, adapter("clover", mlp_block=0))
    noisy(handle.parameters(), 0.1)
    handle.strength = 0.7
    adapted, deltas = model(tokens).logits, handle.deltas()
    handle.detach()
    assert not torch.allclose(model(tokens).logits, adapted, atol=1e-3)
    with torch.no_grad():
        for attention in Decoder(model).attentions:
            keys = "key" if make is tiny_llama else "query_key"
            for path, projection in ((keys, attention.keys), ("value_output", attention.values)):
                projection.module.weight[projection.index] += deltas[f"{attention.path}.{path}"]
                projection.module.bias[projection.index] += deltas[f"{attention.path}.{path}.bias"]
    torch.testing.assert_close(model(tokens).logits, adapted, rtol=1e-8, atol=1e-10)


def test_decompositions_come_from_the_cache():
    cache = FactorCache()
    attach(tiny_gpt2(), adapter("clover", mlp_block=0), factors=cache).detach()
    computed = cache.computed
    assert computed == 2 * 2 * 3  # of each layer's two pairs, the two maps and what lies between them
    attach(tiny_gpt2(), adapter("clover", mlp_block=0), factors=cache)
    assert cache.computed == computed


def test_fast_and_plain_answer_agree():
    method = adapter("clover")
    first = torch.randn(3, 4, 10, dtype=torch.float64)
    pair = Pair(first, torch.randn(3, 7, 4, dtype=torch.float64))
    state = method.init(pair, context(first[0]))
    x = torch.randn(2, 5, 10, dtype=torch.float64)
    plain = x @ method.first(state, 0.7).flatten(0, 1).T
    torch.testing.assert_close(method.forward(state, x, 0.7), plain)


def test_a_core_under_grouped_queries_serves_the_whole_group(llama):
    assert parameter_count(llama, adapter("clover", mlp_block=0)) == 2 * (2 * 8 * 8 + 2 * 8 * 8)


def test_what_has_no_pair_is_named(llama):
    with pytest.raises(AdapterlabError, match="mlp_block 5 does not divide 48 hidden units"):
        attach(llama, adapter("clover", mlp_block=5))
    attach(llama, adapter("lora", rank=2), name="below")
    with pytest.raises(AdapterlabError, match="is adapted already: detach that first"):
        attach(llama, adapter("clover", mlp_block=0))


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
def test_other_adapters_stand_on_top(tokens):
    model = tiny_llama()
    answer = model(tokens).logits
    below = attach(model, adapter("clover", mlp_block=4))
    above = attach(model, adapter("lora", rank=2), name="above")
    noisy(below.parameters(), 0.05)
    noisy(above.parameters(), 0.05)
    both = model(tokens).logits
    below.merge()
    above.merge()
    torch.testing.assert_close(model(tokens).logits, both, rtol=1e-4, atol=1e-5)
    above.detach()
    below.detach()
    assert torch.equal(model(tokens).logits, answer)
