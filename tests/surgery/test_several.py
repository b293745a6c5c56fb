"""Several adapters on one model: chosen, combined, or each for some rows of a batch."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, OPTConfig

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery import attach
from adapterlab.surgery.handle import attached
from adapterlab.surgery.rows import adapter_rows
from adapterlab.surgery.several import combine, set_active
from tests.adapters.methods import LINEAR, noisy, small
from tests.conftest import tiny_gpt2, tiny_llama
from tests.surgery.test_attach import bits, same_bits

pytestmark = [
    pytest.mark.filterwarnings("ignore:the adapter attached before is frozen"),
    pytest.mark.filterwarnings("ignore:Adapter name 'a' should not be contained in the prefix"),
]


@pytest.fixture
def tokens():
    return torch.randint(0, 64, (4, 10), generator=torch.Generator().manual_seed(3))


def two(model, first="lora", second="hra"):
    handles = []
    for seed, (name, method) in enumerate({"a": first, "b": second}.items()):
        handle = attach(model, small(method), name=name, seed=seed)
        noisy(handle.parameters(), 0.1 * (1 + seed))
        handles.append(handle)
    return handles


def alone(model, tokens, *names):
    set_active(model, *names)
    with torch.no_grad():
        return model(tokens).logits


def total_loss(logits, tokens):
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("second", LINEAR)
def test_each_row_has_its_adapter(make, second, tokens):
    model = make()
    base = model(tokens).logits
    handle, _ = two(model, second=second)
    expected = {name: alone(model, tokens, name) for name in "ab"} | {"base": base}
    names = ["b", "base", "a", "b"]
    with torch.no_grad():
        found = model(tokens, adapter_names=names).logits
    for row, name in enumerate(names):
        torch.testing.assert_close(found[row], expected[name][row], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, alone(model, tokens, "b"))  # the call left nothing
    handle.detach()


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_clover_by_row(make, tokens):
    model = make()
    base = model(tokens).logits
    handle = attach(model, small("clover"))
    noisy(handle.parameters())
    adapted = model(tokens).logits
    found = model(tokens, adapter_names=["default", "__base__", "default", "base"]).logits
    for row, expected in enumerate([adapted, base, adapted, base]):
        torch.testing.assert_close(found[row], expected[row], rtol=1e-4, atol=1e-5)


def test_rows_are_pefts(tokens):
    """The same two LoRAs in PEFT's mixed batch."""
    ours, theirs = tiny_llama(), tiny_llama()
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules="all-linear")
    theirs = peft.get_peft_model(theirs, config, adapter_name="a")
    theirs.add_adapter("b", config)
    for seed, name in enumerate("ab"):
        handle = attach(ours, adapter("lora", rank=3, alpha=6.0), name=name)
        noisy(handle.parameters(), 0.1 * (1 + seed))
        for path, site in handle.sites.items():
            layer = theirs.get_submodule(f"base_model.model.{path}")
            with torch.no_grad():
                layer.lora_A[name].weight.copy_(site.a)
                layer.lora_B[name].weight.copy_(site.b)
    names = ["a", "b", "__base__", "a"]
    theirs.eval()
    with torch.no_grad():
        expected = theirs(input_ids=tokens, adapter_names=names).logits
        torch.testing.assert_close(ours(tokens, adapter_names=names).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["lora", "hra", "dora", "ia3"])
def test_each_row_has_its_strength(name, tokens):
    model = tiny_llama()
    handle = attach(model, small(name), name="a")
    noisy(handle.parameters(), 0.1)
    strengths = [0.0, 0.5, 1.0, 2.0] if not handle.adapter.strength_problem(2.0) else [0.0, 0.5, 1.0, 0.25]
    expected = []
    for row, strength in enumerate(strengths):
        handle.strength = strength
        expected.append(model(tokens).logits[row])
    handle.strength = 1.0
    found = model(tokens, adapter_names=["a"] * 4, adapter_strengths=strengths).logits
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert handle.strength == 1.0


def test_rows_train_their_own_adapters(tokens):
    model = tiny_llama()
    first, second = two(model)
    first.requires_grad_(True)
    gradients = []
    for own, rows in ((first, [0, 2]), (second, [1, 3])):
        set_active(model, own.name)
        logits = model(tokens[rows]).logits
        total_loss(logits, tokens[rows]).backward()
        gradients += [p.grad.clone() for p in own.parameters()]
        model.zero_grad()
    with adapter_rows(model, ["a", "b", "a", "b"]):
        logits = model(tokens).logits
    total_loss(logits, tokens).backward()
    found = [p.grad for handle in (first, second) for p in handle.parameters()]
    for grad, expected in zip(found, gradients, strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_rows_generate(beams, tokens):
    model = tiny_llama()
    two(model)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, "num_beams": beams}
    expected = {}
    for name in ("a", "b"):
        set_active(model, name)
        expected[name] = model.generate(tokens, **options)
    set_active(model)
    expected["base"] = model.generate(tokens, **options)
    names = ["a", "base", "b", "a"]
    with adapter_rows(model, names):
        found = model.generate(tokens, **options)
    for row, name in enumerate(names):
        assert torch.equal(found[row], expected[name][row])


def test_flattened_tokens_keep_their_row(tokens):
    """OPT passes its feed-forward layers all tokens of the batch in one dimension."""
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "word_embed_proj_dim": 32}
    config = OPTConfig(**shape, num_attention_heads=4)
    model = AutoModelForCausalLM.from_config(config).eval()
    two(model)
    expected = {name: alone(model, tokens, name) for name in "ab"}
    with torch.no_grad():
        found = model(tokens, adapter_names=["a", "b", "b", "a"]).logits
    for row, name in enumerate("abba"):
        torch.testing.assert_close(found[row], expected[name][row], rtol=1e-4, atol=1e-5)


def test_rows_that_cannot_be(tokens):
    model = tiny_llama()
    first, second = two(model)
    with pytest.raises(UnknownNameError, match="unknown adapter 'c' in adapter_names"):
        model(tokens, adapter_names=["a", "b", "c", "a"])
    with pytest.raises(AdapterlabError, match="a layer sees 4 rows, and 3 adapter names"):
        model(tokens, adapter_names=["a", "b", "a"])
    with pytest.raises(AdapterlabError, match="adapter_strengths needs adapter_names"):
        model(tokens, adapter_strengths=[1.0])
    with pytest.raises(AdapterlabError, match="4 adapter names and 1 strengths"):
        model(tokens, adapter_names=["a"] * 4, adapter_strengths=[1.0])
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(AdapterlabError, match="gradient checkpointing runs layers again"):
        model(tokens, adapter_names=["a", "b", "a", "b"])
    model.gradient_checkpointing_disable()
    first.merge()
    with pytest.raises(AdapterlabError, match="'a' is merged"):
        model(tokens, adapter_names=["a", "b", "a", "b"])
    first.unmerge()
    prompt = attach(model, small("prompt"), name="p")
    with pytest.raises(AdapterlabError, match="adapts prompts: rows of a batch"):
        model(tokens, adapter_names=["a", "b", "a", "b"])
    prompt.detach()
    model.eval()
    answer = model(tokens).logits
    assert torch.isfinite(answer).all()
    second.detach()
    first.detach()
    with pytest.raises(TypeError):
        torch.nn.Linear(2, 2)(torch.ones(1, 2), adapter_names=["a"])


def test_names_are_unique_and_leave_with_their_adapter(tokens):
    model = tiny_llama()
    before = bits(model)
    first = attach(model, small("lora"), "q_proj", name="a")
    with pytest.raises(AdapterlabError, match="an adapter named 'a' is attached already"):
        attach(model, small("lora"), "k_proj", name="a")
    assert list(attached(model)) == ["a"]
    other = copy.deepcopy(model)
    first.detach()
    assert not attached(model)
    assert list(attached(other)) == ["a"]
    attached(other)["a"].detach()
    assert same_bits(bits(other), before)


def test_the_active_ones_are_chosen(tokens):
    model = tiny_llama()
    base = model(tokens).logits
    first, second = two(model)
    with first.disabled():
        only = model(tokens).logits
    torch.testing.assert_close(alone(model, tokens, "b"), only)
    assert (first.active, second.active) == (False, True)
    assert torch.equal(alone(model, tokens), base)
    with pytest.raises(UnknownNameError, match="unknown adapter 'c' in LlamaForCausalLM"):
        set_active(model, "c")
    set_active(model, "a", "b")
    assert first.active
    assert second.active


@pytest.mark.parametrize(("first", "second"), [("lora", "lora"), ("lora", "hra"), ("pissa", "dora")])
def test_a_weighted_sum_adds_the_changes(first, second, tokens):
    model = tiny_llama(attention_bias=False)
    handles = two(model, first, second)
    weights = {"a": 0.7, "b": -0.4}
    expected = {}
    for handle in handles:
        set_active(model, handle.name)
        for path, delta in handle.deltas().items():
            expected[path] = expected.get(path, 0) + weights[handle.name] * delta
    mixed = combine(model, weights, name="mix")
    assert [name for name, handle in attached(model).items() if handle.active] == ["mix"]
    for path, delta in mixed.deltas().items():
        torch.testing.assert_close(delta, expected[path], rtol=1e-4, atol=1e-5)


def test_a_weighted_sum_is_pefts(tokens):
    ours, theirs = tiny_llama(), tiny_llama()
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"])
    theirs = peft.get_peft_model(theirs, config, adapter_name="a")
    theirs.add_adapter("b", config)
    for seed, name in enumerate("ab"):
        handle = attach(ours, adapter("lora", rank=2, alpha=4.0), ["q_proj", "down_proj"], name=name)
        torch.manual_seed(seed)
        for parameter in handle.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        for path, site in handle.sites.items():
            layer = theirs.get_submodule(f"base_model.model.{path}")
            with torch.no_grad():
                layer.lora_A[name].weight.copy_(site.a)
                layer.lora_B[name].weight.copy_(site.b)
    theirs.add_weighted_adapter(["a", "b"], [0.6, 0.3], "mix", combination_type="cat")
    theirs.set_adapter("mix")
    assert combine(ours, {"a": 0.6, "b": 0.3}, name="mix").adapter.rank == 4
    theirs.eval()
    torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lora", "ia3", "oft", "vblora"])
def test_an_average_is_the_mean_of_what_was_trained(name, tokens):
    model = tiny_llama()
    handles = []
    for seed, each in enumerate("ab"):
        handles.append(attach(model, small(name), name=each, seed=7))
        noisy(handles[-1].parameters(), 0.1 * (1 + seed))
    mixed = combine(model, {"a": 1.0, "b": 3.0}, name="mix", how="average")
    assert mixed.adapter == handles[0].adapter
    assert mixed.parameter_count == handles[0].parameter_count
    for path, site in mixed.sites.items():
        for key, tensor in site.state.trainable.items():
            first, second = (handle.sites[path].state[key] for handle in handles)
            torch.testing.assert_close(tensor.detach(), 0.25 * first + 0.75 * second)


def test_combinations_that_mean_nothing():
    model = tiny_llama()
    two(model)
    with pytest.raises(AdapterlabError, match="'b' differs from 'a' in method, settings or places: use how='sum'"):
        combine(model, {"a": 1.0, "b": 1.0}, name="mix", how="average")
    assert list(attached(model)) == ["a", "b"]
    with pytest.raises(UnknownNameError, match="unknown adapter 'c'"):
        combine(model, {"c": 1.0}, name="mix")
    with pytest.raises(AdapterlabError, match="name at least one"):
        combine(model, {}, name="mix")
    for seed, name in enumerate("vw"):
        attach(model, small("vera"), name=name, seed=seed)
    with pytest.raises(AdapterlabError, match="have other frozen tensors"):
        combine(model, {"v": 1.0, "w": 1.0}, name="mix", how="average")
    reft = attach(model, small("reft"), name="r")
    with pytest.raises(AdapterlabError, match=r"reft \('r'\) does not change linear layers"):
        combine(model, {"r": 1.0}, name="mix")
    reft.detach()
