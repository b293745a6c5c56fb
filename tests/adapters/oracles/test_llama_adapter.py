"""LLaMA-Adapter against the paper's equations in a decoder written out in plain torch, and against PEFT.

The authors' training code has a gate for each head and applies tanh to it, as the paper (section 3.2) and as is the default
here. PEFT has one gate a layer, as it is, and differs from the paper in two more points, in which the paper is followed:

- It sends the prompt's output through the output projection by itself, so that a bias of that projection is added twice,
  even with a gate of zero.
- On GPT-2 it adds the prompt's output behind the output projection, not before.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peft import AdaptionPromptConfig, get_peft_model

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import noisy
from tests.adapters.oracles.descent import ADAMW, SGD, agree, descend, same_descent
from tests.adapters.oracles.models import lively, loss_of
from tests.conftest import tiny_llama

MODELS = {
    "groups of two": {},
    "without groups": {"num_key_value_heads": 4, "tie_word_embeddings": False, "num_hidden_layers": 3},
    "three heads of ten": {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10, "hidden_size": 27},
}


def turned(x, cos, sin):
    """The rotary embedding of positions."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


def plain_logits(model, tokens, prompts, gates):
    """A LLaMA with zero-init attention: `prompts` and `gates`, already squashed, by number of the layer."""
    config, decoder = model.config, model.model
    width, shared = config.head_dim or 8, config.num_attention_heads // config.num_key_value_heads
    count = tokens.shape[1]
    hidden = decoder.embed_tokens(tokens)
    cos, sin = decoder.rotary_emb(hidden, torch.arange(count)[None])
    causal = torch.full((count, count), -math.inf, dtype=hidden.dtype).triu(1)
    for number, block in enumerate(decoder.layers):
        attention = block.self_attn

        def heads(x, repeats=1):
            return x.unflatten(-1, (-1, width)).transpose(-3, -2).repeat_interleave(repeats, dim=-3)

        x = block.input_layernorm(hidden)
        query = turned(heads(attention.q_proj(x)), cos, sin)
        key, value = turned(heads(attention.k_proj(x), shared), cos, sin), heads(attention.v_proj(x), shared)
        output = torch.softmax(query @ key.mT / math.sqrt(width) + causal, dim=-1) @ value
        if number in prompts:
            own_key, own_value = (heads(f(prompts[number]), shared) for f in (attention.k_proj, attention.v_proj))
            shares = torch.softmax(query @ own_key.mT / math.sqrt(width), dim=-1)
            output = output + gates[number][:, None, None] * (shares @ own_value)
        hidden = hidden + attention.o_proj(output.transpose(1, 2).flatten(-2))
        hidden = hidden + block.mlp(block.post_attention_layernorm(hidden))
    return model.lm_head(decoder.norm(hidden))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("settings", "optimizer"),
    [
        ({}, ADAMW),
        ({"layers": 1}, SGD),
        ({"layers": 2, "per_head": False}, SGD),
        ({"squash": False}, SGD),
    ],
)
def test_the_model_its_gradients_and_its_training_are_those_of_zero_init_attention(kind, settings, optimizer, tokens):
    model = lively(tiny_llama(**MODELS[kind]))
    other = copy.deepcopy(model)
    method = adapter("llama_adapter", length=5, **settings)
    handle = attach(model, method)
    noisy([site.gate for site in handle.sites.values()], 0.4)
    count = model.config.num_hidden_layers
    numbers = range(count - (method.layers or count), count)
    sites = dict(zip(numbers, handle.sites.values(), strict=True))
    prompts, gates = (
        {n: getattr(s, name).detach().clone().requires_grad_() for n, s in sites.items()} for name in ("prompt", "gate")
    )

    def squashed():
        applied = {n: torch.tanh(g) if method.squash else g for n, g in gates.items()}
        return {n: g.expand(model.config.num_attention_heads) for n, g in applied.items()}

    agree(model(tokens).logits, plain_logits(other, tokens, prompts, squashed()))
    ours = list(handle.parameters())
    theirs = [leaf for n in numbers for leaf in (prompts[n], gates[n])]
    assert [p.shape for p in ours] == [p.shape for p in theirs]
    gradients = [
        torch.autograd.grad(loss, leaves)
        for loss, leaves in (
            (loss_of(model(tokens).logits, tokens), ours),
            (loss_of(plain_logits(other, tokens, prompts, squashed()), tokens), theirs),
        )
    ]
    agree(*gradients)
    same_descent(
        descend(lambda: loss_of(model(tokens).logits, tokens), ours, optimizer),
        descend(lambda: loss_of(plain_logits(other, tokens, prompts, squashed()), tokens), theirs, optimizer),
    )
    agree([p.detach() for p in ours], [p.detach() for p in theirs])


@pytest.mark.parametrize("kind", MODELS)
def test_without_prompts_the_plain_decoder_is_the_model(kind, tokens):
    model = lively(tiny_llama(**MODELS[kind]))
    agree(model(tokens).logits, plain_logits(model, tokens, {}, {}))


@pytest.fixture
def softmax_in_float64(monkeypatch):
    """Keep PEFT's softmax, which is in float32 even for a float64 model, in what it is given: no rounding hides a fault."""
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype=None: softmax(x, dim=dim))


@pytest.mark.parametrize("kind", ["groups of two", "without groups"])
@pytest.mark.parametrize("layers", [1, 2])
def test_with_one_gate_a_layer_it_trains_as_in_peft(kind, layers, tokens, softmax_in_float64):
    """Without biases behind the heads, which PEFT would add twice."""
    model = lively(tiny_llama(**MODELS[kind]))
    for block in model.model.layers:
        block.self_attn.o_proj.bias = None
    config = AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=5, adapter_layers=layers)
    theirs = get_peft_model(copy.deepcopy(model), config).double()
    handle = attach(model, adapter("llama_adapter", length=5, layers=layers, per_head=False, squash=False))
    others = [block.self_attn for block in theirs.base_model.model.model.layers[-layers:]]
    for site, other in zip(handle.sites.values(), others, strict=True):
        with torch.no_grad():
            site.gate.fill_(0.7)
            other.adaption_gate.fill_(0.7)
            other.adaption_prompt.copy_(site.prompt[None])
    mask = torch.ones_like(tokens)
    mask[0, :3] = 0
    answers = tokens.masked_fill(mask == 0, -100)

    def answer(m):
        """PEFT counts padding as positions, so it is given the positions that are meant."""
        where = {} if m is model else {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
        return m(input_ids=tokens, attention_mask=mask, **where).logits

    agree(*(answer(m)[mask == 1] for m in (model, theirs)))
    trained = [p for other in others for p in (other.adaption_prompt, other.adaption_gate)]
    same_descent(
        descend(lambda: loss_of(answer(model), answers), list(handle.parameters()), ADAMW),
        descend(lambda: loss_of(answer(theirs), answers), trained, ADAMW),
    )
    for site, other in zip(handle.sites.values(), others, strict=True):
        agree(site.prompt.detach()[None], other.adaption_prompt.detach())
        agree(site.gate.detach(), other.adaption_gate.detach())


def test_a_bias_behind_the_heads_is_added_once_where_peft_adds_it_twice(tokens):
    model = lively(tiny_llama())
    base = model(tokens).logits
    config = AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=5, adapter_layers=2)
    theirs = get_peft_model(copy.deepcopy(model), config).double()
    attach(model, adapter("llama_adapter", length=5))
    assert torch.equal(model(tokens).logits, base)
    assert not torch.allclose(theirs(tokens).logits, base, atol=1e-2), "PEFT has mended this: compare with biases"
