"""With a prompt or a prefix attached the model keeps its interface: it answers for the user's own tokens."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaForSequenceClassification, LlamaModel

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from tests.adapters.methods import noisy, small
from tests.conftest import tiny_gpt2, tiny_llama

CONTEXT = ["prompt", "prefix", "ptuning_v2", "llama_adapter"]
MODELS = {"llama": tiny_llama, "gpt2": tiny_gpt2}


def adapted(name, make=tiny_llama, **changes):
    model = make(**changes)
    handle = attach(model, small(name))
    noisy(handle.parameters(), 0.5)
    return model, handle


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", CONTEXT)
def test_logits_and_loss_are_those_of_the_users_tokens(name, make, tokens):
    model, _ = adapted(name, make)
    labels = tokens.clone()
    labels[:, :4] = -100
    answer = model(input_ids=tokens, labels=labels, output_hidden_states=True)
    assert answer.logits.shape == (2, 12, 64)
    assert {tuple(h.shape) for h in answer.hidden_states} == {(2, 12, 32)}
    expected = torch.nn.functional.cross_entropy(answer.logits[:, 3:-1].flatten(0, 1), tokens[:, 4:].flatten())
    torch.testing.assert_close(answer.loss, expected)
    kept = model(input_ids=tokens, logits_to_keep=2).logits
    torch.testing.assert_close(kept, answer.logits[:, -2:])
    plain = model(input_ids=tokens, return_dict=False)[0]
    torch.testing.assert_close(plain, answer.logits)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", CONTEXT)
def test_padding_on_the_left_changes_nothing(name, make, tokens):
    model, _ = adapted(name, make)
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), tokens], dim=1)
    mask = (torch.arange(15) >= 3).long().expand(2, -1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    answer = model(input_ids=padded, attention_mask=mask, position_ids=positions).logits[:, 3:]
    torch.testing.assert_close(answer, model(tokens).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", [*CONTEXT, "reft", "xlora", "poly", "clover", "trainable_tokens"])
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_a_cache_is_generation_without(name, make, beams, tokens):
    model = make()
    # Without a cache an edit at the end of the prompt would move on with every token.
    method = adapter("reft", rank=3, start=2, end=0) if name == "reft" else small(name)
    noisy(attach(model, method).parameters(), 0.5)
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[0, :3] = 0
    options = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "num_beams": beams, "pad_token_id": 1}
    cached = model.generate(tokens[:, :8], use_cache=True, **options)
    assert torch.equal(cached, model.generate(tokens[:, :8], use_cache=False, **options))


@pytest.mark.parametrize("name", CONTEXT)
def test_a_cache_may_be_carried_on_by_hand(name, tokens):
    model, _ = adapted(name)
    whole = model(tokens).logits
    first = model(tokens[:, :7], use_cache=True)
    rest = model(tokens[:, 7:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(torch.cat([first.logits, rest], dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", CONTEXT)
def test_eager_attention_answers_like_sdpa(name, make, tokens):
    mask = torch.ones_like(tokens)
    mask[1, :4] = 0
    model, handle = adapted(name, make)
    answers = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        answers.append(model(tokens, attention_mask=mask).logits)
        if name != "prompt":
            handle.strength = 0.5
            answers.append(model(tokens, attention_mask=mask).logits)
            handle.strength = 1.0
    half = len(answers) // 2
    for sdpa, eager in zip(answers[:half], answers[half:], strict=True):
        torch.testing.assert_close(sdpa[0], eager[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sdpa[1, 4:], eager[1, 4:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONTEXT)
def test_a_classifier_and_a_bare_backbone_take_it_too(name, tokens):
    config = copy.deepcopy(tiny_llama().config)
    config.num_labels, config.pad_token_id = 3, 1
    for kind, shape in ((LlamaForSequenceClassification, (2, 3)), (LlamaModel, (2, 12, 32))):
        torch.manual_seed(0)
        model = kind(config).eval()
        base = model(tokens)[0]
        handle = attach(model, small(name))
        noisy(handle.parameters(), 0.5)
        assert model(tokens)[0].shape == shape
        assert not torch.allclose(model(tokens)[0], base, atol=1e-4)
        handle.detach()
        assert torch.equal(model(tokens)[0], base)


@pytest.mark.parametrize("name", ["prefix", "ptuning_v2", "llama_adapter"])
def test_strength_leads_from_the_base_to_the_adapted_model(name, tokens):
    model, handle = adapted(name)
    moved_positions = name != "llama_adapter"
    handle.strength = 1e-7
    positions = torch.arange(12)[None] + (handle.adapter.length if moved_positions else 0)
    near = model(tokens).logits
    with handle.disabled():
        torch.testing.assert_close(near, model(tokens, position_ids=positions).logits, rtol=1e-3, atol=1e-4)
    handle.strength = 1.0
    full = model(tokens).logits
    handle.strength = 1 - 1e-6
    torch.testing.assert_close(model(tokens).logits, full, rtol=1e-3, atol=1e-4)


def test_a_strength_that_means_nothing_is_refused(llama):
    handle = attach(llama, small("prompt"))
    with pytest.raises(
        AdapterlabError, match=r"prompt: strength 0\.5: a prompt is either present \(1\) or absent \(0\)"
    ):
        handle.strength = 0.5
    assert handle.strength == 1.0
    handle.detach()
    with pytest.raises(AdapterlabError, match="prefix cannot have a negative weight"):
        attach(llama, small("prefix")).strength = -1.0


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
def test_two_contexts_and_a_weight_adapter_live_together(llama, tokens):
    answer = llama(tokens).logits
    handles = [attach(llama, small(name), name=name) for name in ("prompt", "prefix", "llama_adapter", "lora", "reft")]
    second = attach(llama, small("prompt"), name="another")
    for handle in (*handles, second):
        noisy(handle.parameters(), 0.3)
    assert llama(tokens).logits.shape == answer.shape
    out = llama.generate(tokens[:, :5], max_new_tokens=4, do_sample=False)
    assert torch.equal(out[:, :5], tokens[:, :5])
    for handle in (handles[0], *handles[2:], second, handles[1]):
        handle.detach()
    assert torch.equal(llama(tokens).logits, answer)


def test_a_mask_that_cannot_be_widened_is_named(llama, tokens):
    attach(llama, small("prompt"))
    with pytest.raises(AdapterlabError, match=r"two dimensions.*not \(2, 1, 12, 12\)"):
        llama(tokens, attention_mask=torch.zeros(2, 1, 12, 12))


@pytest.mark.parametrize("name", ["prefix", "ptuning_v2", "llama_adapter"])
def test_a_mask_of_four_dimensions_leaves_a_prefix_to_be_seen(name, llama, tokens):
    noisy(attach(llama, small(name)).parameters())
    seen = torch.ones(12, 12, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    for mask in (seen, added):
        torch.testing.assert_close(llama(tokens, attention_mask=mask).logits, llama(tokens).logits)


def test_prefix_parameters_are_shared_where_the_layers_share_them(llama):
    handle = attach(llama, adapter("prefix", length=4, hidden=6))
    width, kv, layers = 32, 16, 2
    assert handle.parameter_count == 4 * width + 6 * width + 6 + layers * (2 * kv * 6 + 2 * kv)
