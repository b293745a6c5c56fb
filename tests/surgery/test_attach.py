"""Attach, detach, merge, strength: the same for every method, on whole models."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, load
from adapterlab.surgery.init.svd_cache import FactorCache
from adapterlab.surgery.model.submodules import in_adapter
from tests.adapters.methods import ALL, noisy, small
from tests.conftest import tiny_gpt2, tiny_llama


def bits(model):
    return {name: t.clone() for name, t in model.state_dict().items()}


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def train(model, handle, tokens, steps=3, lr=1e-2):
    """A few real optimizer steps on the model's own loss."""
    optimizer = torch.optim.Adam(handle.parameters(), lr=lr)
    for _ in range(steps):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("name", ALL)
def test_a_trained_adapter_leaves_no_trace(name, make, tokens):
    model = make()
    before, answer = bits(model), model(tokens).logits
    structure = repr(model)
    flags = [p.requires_grad for p in model.parameters()]
    handle = attach(model, small(name))
    if handle.adapter.starts_as_base:
        torch.testing.assert_close(model(tokens).logits, answer)
    train(model, handle, tokens)
    changed = model(tokens).logits
    assert not torch.allclose(changed, answer, atol=1e-4)
    with handle.disabled():
        assert torch.equal(model(tokens).logits, answer)
    handle.strength = 0.0
    assert torch.equal(model(tokens).logits, answer)
    handle.strength = 1.0
    assert torch.equal(model(tokens).logits, changed)
    if handle.adapter.mergeable:
        handle.merge()
        torch.testing.assert_close(model(tokens).logits, changed, rtol=1e-4, atol=1e-5)
        handle.unmerge()
    else:
        with pytest.raises(AdapterlabError, match="cannot be merged"):
            handle.merge()
    assert torch.equal(model(tokens).logits, changed)
    handle.detach()
    assert same_bits(bits(model), before)
    assert torch.equal(model(tokens).logits, answer)
    assert repr(model) == structure
    assert [p.requires_grad for p in model.parameters()] == flags


@pytest.mark.parametrize("name", ALL)
def test_base_weights_get_no_gradient(name, llama, tokens):
    base = list(llama.parameters())
    handle = attach(llama, small(name))
    llama(input_ids=tokens, labels=tokens).loss.backward()
    assert all(p.grad is None for p in base)
    assert all(p.grad is not None for p in handle.parameters())


@pytest.mark.parametrize("name", ALL)
def test_a_bfloat16_base_trains_a_float32_state(name, tokens):
    model = tiny_llama().bfloat16()
    handle = attach(model, small(name))
    assert {p.dtype for p in handle.parameters()} == {torch.float32}
    logits = model(tokens).logits
    assert logits.dtype == torch.bfloat16
    logits.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in handle.parameters())


@pytest.mark.parametrize("name", ALL)
def test_gradient_checkpointing_gives_the_same_gradients(name, tokens):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_llama().train()
        handle = attach(model, small(name))
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(input_ids=tokens, labels=tokens).loss.backward()
        gradients.append([p.grad for p in handle.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", ALL)
def test_a_copy_of_the_model_carries_its_own_adapter(name, llama, tokens):
    handle = attach(llama, small(name))
    start = llama(tokens).logits
    twin = copy.deepcopy(llama)
    train(llama, handle, tokens)
    assert not torch.allclose(start, llama(tokens).logits, atol=1e-4)
    assert torch.equal(twin(tokens).logits, start)
    handle.detach()
    assert torch.equal(twin(tokens).logits, start)


@pytest.mark.parametrize(("first", "second"), [("lora", "oft"), ("oft", "lora"), ("dora", "ia3"), ("full_ft", "pissa")])
def test_adapters_stack_and_leave_in_any_order(first, second, llama, tokens):
    answer = llama(tokens).logits
    below = attach(llama, small(first), name="first")
    train(llama, below, tokens)
    alone = llama(tokens).logits
    with pytest.warns(UserWarning, match="the adapter attached before is frozen now, and 'second' trains on top of it"):
        above = attach(llama, small(second), name="second")
    assert not any(p.requires_grad for p in below.parameters())
    train(llama, above, tokens)
    both = llama(tokens).logits
    below.merge()
    above.merge()
    torch.testing.assert_close(llama(tokens).logits, both, rtol=1e-3, atol=1e-4)
    above.unmerge()
    below.unmerge()
    with above.disabled():
        torch.testing.assert_close(llama(tokens).logits, alone)
    below.detach()
    assert not torch.allclose(llama(tokens).logits, both, atol=1e-4)
    above.detach()
    assert torch.equal(llama(tokens).logits, answer)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1)])
def test_the_base_is_frozen_until_the_last_adapter_leaves(order, llama):
    """Some of the base's parameters were frozen before; they stay so."""
    llama.get_input_embeddings().requires_grad_(False)
    flags = {path: p.requires_grad for path, p in llama.named_parameters()}
    handles = [attach(llama, small("lora"), name=name).requires_grad_(False) for name in ("a", "b", "c")]
    for i in order[:2]:
        handles[i].detach()
        assert not any(p.requires_grad for path, p in llama.named_parameters() if not in_adapter(path))
    handles[order[2]].detach()
    assert {path: p.requires_grad for path, p in llama.named_parameters()} == flags


def test_an_adapter_trains_again_when_the_one_above_leaves(llama):
    below = attach(llama, small("lora"), name="first")
    with pytest.warns(UserWarning, match="requires_grad_"):
        above = attach(llama, small("lora"), name="second")
    above.detach()
    assert all(p.requires_grad for p in below.parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_a_site_is_in_the_mode_of_its_layer(name, training, llama, tmp_path):
    llama.train(training)
    handle = attach(llama, small(name))
    assert {module.training for module in llama.modules()} == {training}
    handle.save(tmp_path)
    handle.detach()
    load(llama, tmp_path)
    assert {module.training for module in llama.modules()} == {training}


def test_dropout_acts_in_training_alone_after_attach_and_load(llama, tokens, tmp_path):
    handle = attach(llama.eval(), adapter("lora", rank=4, dropout=0.5))
    train(llama, handle, tokens)
    assert torch.equal(llama(tokens).logits, llama(tokens).logits)
    answer = llama(tokens).logits
    handle.save(tmp_path)
    handle.detach()
    load(llama, tmp_path)
    assert torch.equal(llama(tokens).logits, answer)
    assert not torch.equal(llama.train()(tokens).logits, answer)


def test_merging_out_of_order_is_refused(llama, tokens):
    attach(llama, small("lora"), name="first").requires_grad_(False)
    above = attach(llama, small("lora"), name="second")
    with pytest.raises(AdapterlabError, match="below is not merged"):
        above.merge()


def test_targets_choose_layers_by_role_ending_or_pattern(llama):
    for targets, expected in [("query", 2), (["q_proj", "down"], 4), ("model.layers.0.*", 7), ("all-linear", 14)]:
        handle = attach(llama, adapter("lora", rank=2), targets=targets)
        assert len(handle.sites) == expected
        handle.detach()


@pytest.mark.parametrize(
    ("name", "settings", "targets", "message"),
    [
        ("lora", {"rank": 99}, "all-linear", "give 1 to 16"),
        ("lora", {"rank": 0}, "all-linear", "give 1 to 16"),
        ("oft", {"block_size": 5}, "all-linear", "give one of 2, 4, 8, 16"),
        ("lora", {}, "qproj", "did you mean q_proj"),
        ("c3a", {"block_size": 5}, "all-linear", "give one of 2, 4, 8, 16"),
        ("bone", {"block_size": 5}, "all-linear", "give one of 2, 4, 8, 16"),
        ("vblora", {"length": 5}, "all-linear", "give one of 2, 4, 8, 16"),
        ("vblora", {"length": 4, "top": 300}, "all-linear", "give 1 to 256"),
        ("fourierft", {"n": 999}, "all-linear", "give 1 to 512"),
        ("randlora", {"rank": 17}, "all-linear", "give 1 to 16"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changed(name, settings, targets, message, llama):
    before, structure = bits(llama), repr(llama)
    with pytest.raises(AdapterlabError, match=message):
        attach(llama, adapter(name, **settings), targets=targets)
    assert same_bits(bits(llama), before)
    assert repr(llama) == structure
    assert all(p.requires_grad for p in llama.parameters())


@pytest.mark.parametrize("name", ALL)
def test_a_base_with_nan_is_refused(name, llama):
    nan = torch.tensor(float("nan"))
    with torch.no_grad():
        for parameter in (llama.model.embed_tokens.weight, llama.model.layers[1].self_attn.k_proj.bias):
            parameter[0] = nan
    structure, flags = repr(llama), [p.requires_grad for p in llama.parameters()]
    with pytest.raises(AdapterlabError, match=r"holds NaN or infinity, so nothing was attached"):
        attach(llama, small(name))
    assert repr(llama) == structure
    assert [p.requires_grad for p in llama.parameters()] == flags


def test_the_place_of_a_nan_is_named(llama):
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(AdapterlabError, match=r"layers\.1\.mlp\.up_proj.*NaN"):
        attach(llama, small("lora"))


def test_a_name_is_used_once(llama):
    attach(llama, small("lora"))
    with pytest.raises(AdapterlabError, match="attached already"):
        attach(llama, small("lora"))


def test_the_same_seed_gives_the_same_start(tokens):
    starts = [[p.clone() for p in attach(tiny_llama(), small("lora"), seed=s).parameters()] for s in (1, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(starts[0], starts[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(starts[0], starts[2], strict=True))


def test_a_weight_is_decomposed_once(tmp_path, llama):
    cache = FactorCache(tmp_path)
    attach(llama, small("pissa"), factors=cache).detach()
    assert cache.computed == 14
    attach(llama, small("pissa"), factors=cache).detach()
    another_process = FactorCache(tmp_path)
    attach(llama, small("pissa"), factors=another_process)
    assert cache.computed == 14
    assert another_process.computed == 0


def test_after_a_step_a_method_sees_every_site(llama, tokens):
    method = adapter("adalora", rank=3, keep=0.5, total_steps=6, warmup_steps=1, final_steps=2, interval=1)
    handle = attach(llama, method)
    optimizer = torch.optim.Adam(handle.parameters(), lr=1e-2)
    for step in range(6):
        optimizer.zero_grad()
        (llama(input_ids=tokens, labels=tokens).loss + handle.regularizer()).backward()
        optimizer.step()
        handle.after_step(step)
    left = [int((site.state["values"] != 0).sum()) for site in handle.sites.values()]
    assert sum(left) == 14 * 3 // 2
    assert len(set(left)) > 1


def test_the_whole_family_costs_one_decomposition(llama):
    cache = FactorCache()
    for name in ("pissa", "svft", "ssvd", "psoft", "antipasto"):
        attach(llama, small(name), factors=cache).detach()
    assert cache.computed == 14


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
def test_a_method_that_stands_for_the_whole_layer_minds_who_else_is_on_it(llama, tokens):
    """SVFT answers from the base's factors alone, unless the weight is no longer the one that they were made of."""
    below = attach(llama, small("lora"), name="below")
    above = attach(llama, small("svft"), name="above")
    train(llama, above, tokens)
    with torch.no_grad():
        for p in below.parameters():
            p += 0.1
    both = llama(tokens).logits
    below.merge()
    torch.testing.assert_close(llama(tokens).logits, both, rtol=1e-4, atol=1e-5)
    above.merge()
    torch.testing.assert_close(llama(tokens).logits, both, rtol=1e-4, atol=1e-5)


def test_another_librarys_forward_is_not_passed_over(llama, tokens):
    layer = llama.model.layers[0].mlp.up_proj
    plain = layer.forward
    layer.forward = lambda x: plain(x) + 1
    answer = llama(tokens).logits
    attach(llama, small("svft"))
    torch.testing.assert_close(llama(tokens).logits, answer)


def test_factors_rebuild_the_weight():
    weight = torch.randn(12, 7, dtype=torch.float64)
    u, s, vt = FactorCache()(weight)
    torch.testing.assert_close(u * s @ vt, weight)
    assert (u.abs().max(0).values == u.max(0).values).all()


@dataclasses.dataclass(frozen=True)
class Louder(LinearAdapter):
    """`g (W x + bias)` with one trained number `g`, by the two definitions alone."""

    def init(self, weight, context):
        return State({"g": context.full(1, value=1.0)})

    def weight(self, state, weight, strength=1.0):
        return weight * state["g"] ** strength

    def bias(self, state, bias, strength=1.0):
        return bias * state["g"] ** strength


def test_a_method_of_the_whole_answer_needs_no_forward_of_its_own(llama, tokens):
    noisy(p for name, p in llama.named_parameters() if name.endswith("bias"))
    answer = llama(tokens).logits
    handle = attach(llama, Louder(), targets=["query", "value"])
    train(llama, handle, tokens, lr=0.1)
    trained, gains = llama(tokens).logits, [p.item() for p in handle.parameters()]
    handle.detach()
    assert torch.equal(llama(tokens).logits, answer)
    layers = [m for name, m in llama.named_modules() if name.endswith(("q_proj", "v_proj"))]
    with torch.no_grad():
        for layer, gain in zip(layers, gains, strict=True):
            layer.weight *= gain
            layer.bias *= gain
    torch.testing.assert_close(llama(tokens).logits, trained, rtol=1e-4, atol=1e-5)


def test_generation_runs_on_an_adapted_model(llama, tokens):
    handle = attach(llama, small("oft"))
    train(llama, handle, tokens, lr=0.1)
    out = llama.generate(tokens[:, :4], max_new_tokens=3, do_sample=False)
    handle.merge()
    assert torch.equal(llama.generate(tokens[:, :4], max_new_tokens=3, do_sample=False), out)


def test_deltas_are_what_the_adapter_adds(llama, tokens):
    handle = attach(llama, small("lora"))
    train(llama, handle, tokens)
    deltas = handle.deltas()
    before = {path: llama.get_submodule(path).weight.clone() for path in deltas}
    handle.merge()
    for path, delta in deltas.items():
        torch.testing.assert_close(before[path] + delta, llama.get_submodule(path).weight)
