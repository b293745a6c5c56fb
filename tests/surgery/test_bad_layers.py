"""Layers that a method cannot adapt: a named error, and the model untouched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from adapterlab.surgery.sites.base import Site
from tests.adapters.methods import LINEAR, noisy, small
from tests.conftest import tiny_gpt2, tiny_llama


class Int8Linear(nn.Linear):
    """A linear layer that keeps codes and a scale for each row, as quantizers do."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        codes = (linear.weight.detach() / scale).round().to(torch.int8)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


@pytest.fixture
def quantized():
    model = tiny_llama(tie_word_embeddings=False)
    for block in model.model.layers:
        for holder, name in ((block.self_attn, "q_proj"), (block.mlp, "down_proj")):
            setattr(holder, name, Int8Linear(getattr(holder, name)))
    return model


WEIGHT_SIDE = {"dora", "pissa"}
ANSWER_SIDE = {"lora", "vera", "oft"}


def refused_or_attached(model, name):
    try:
        return "", attach(model, small(name))
    except AdapterlabError as error:
        return str(error), None


@pytest.mark.parametrize("name", LINEAR)
def test_quantized_weights_take_what_adds_to_the_answer_alone(name, quantized, tokens):
    structure, answer = repr(quantized), quantized(tokens).logits
    refusal, handle = refused_or_attached(quantized, name)
    if handle is None:
        assert "q_proj: Int8Linear holds quantized weights (torch.int8)" in refusal
        assert name not in ANSWER_SIDE
        assert repr(quantized) == structure
        assert all(p.requires_grad for p in quantized.parameters() if p.is_floating_point())
        return
    assert name not in WEIGHT_SIDE
    if handle.adapter.starts_as_base:
        torch.testing.assert_close(quantized(tokens).logits, answer)
    quantized(input_ids=tokens, labels=tokens).loss.backward()
    noisy(handle.parameters(), 0.1)
    changed = quantized(tokens).logits
    assert not torch.allclose(changed, answer, atol=1e-4)
    with pytest.raises(AdapterlabError, match="nothing can be added to them"):
        handle.merge()
    assert torch.equal(quantized(tokens).logits, changed)
    handle.detach()
    assert torch.equal(quantized(tokens).logits, answer)


@pytest.mark.parametrize("name", ["reft", "prompt", "prefix", "llama_adapter", "poly", "xlora", "trainable_tokens"])
def test_other_sites_do_not_mind_quantized_weights(name, quantized, tokens):
    for block in quantized.model.layers:
        block.self_attn.k_proj = Int8Linear(block.self_attn.k_proj)
    handle = attach(quantized, small(name))
    noisy(handle.parameters())
    assert all(p.dtype == torch.float32 for p in handle.parameters())
    quantized(input_ids=tokens, labels=tokens).loss.backward()
    assert all(p.grad is not None for p in handle.parameters())


def test_a_decomposition_of_quantized_weights_is_refused(quantized):
    quantized.model.layers[0].self_attn.k_proj = Int8Linear(quantized.model.layers[0].self_attn.k_proj)
    with pytest.raises(AdapterlabError, match="k_proj: Int8Linear holds quantized weights"):
        attach(quantized, adapter("clover", mlp_block=0))


def by_torchao(model):
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    return model


def by_bitsandbytes(model):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    for block in model.model.layers:
        for path, own in list(block.named_modules()):
            if isinstance(own, nn.Linear):
                packed = bitsandbytes.nn.Linear4bit(own.in_features, own.out_features, bias=own.bias is not None)
                packed.bias = own.bias
                packed.weight = bitsandbytes.nn.Params4bit(own.weight.data, quant_type="nf4").to("cpu")
                block.set_submodule(path, packed)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("names", [["lora", "oft"], pytest.param(LINEAR, marks=pytest.mark.soak)], ids=["some", "all"])
@pytest.mark.parametrize("quantize", [by_torchao, by_bitsandbytes])
def test_libraries_that_quantize_are_understood(quantize, names, tokens):
    model = quantize(tiny_llama(hidden_size=64, intermediate_size=128, tie_word_embeddings=False))
    answer = model(tokens).logits
    for name in names:
        handle = attach(model, small(name))
        model(input_ids=tokens, labels=tokens).loss.backward()
        noisy(handle.parameters(), 0.1)
        assert not torch.allclose(model(tokens).logits, answer, atol=1e-4)
        handle.detach()
        assert torch.equal(model(tokens).logits, answer)


@pytest.mark.filterwarnings("ignore")
def test_torchs_own_quantized_layers_are_named(llama):
    packed = torch.ao.quantization.quantize_dynamic(llama, {nn.Linear}, dtype=torch.qint8)
    for targets in ("all-linear", "q_proj"):
        with pytest.raises(AdapterlabError, match="a packed quantized layer: load the model unquantized"):
            attach(packed, small("lora"), targets=targets)


def test_packed_layers_of_a_quantizer_are_named(llama):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("qweight", torch.zeros(4, 4, dtype=torch.int32))

    for block in llama.model.layers:
        block.self_attn.q_proj = Packed()
    with pytest.raises(AdapterlabError, match=r"is a Packed .* a packed quantized layer: load the model unquantized"):
        attach(llama, small("lora"), targets="q_proj")


def test_another_kind_of_module_is_named(llama):
    with pytest.raises(AdapterlabError, match=r"'input_layernorm' is a LlamaRMSNorm .*does not adapt"):
        attach(llama, small("lora"), targets="input_layernorm")


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_tied_rows_move_together(make, tokens):
    model = make()
    handle = attach(model, adapter("trainable_tokens", ids=(5, 9)))
    assert len(handle.sites) == 1
    noisy(handle.parameters(), 1.0)
    adapted = model(tokens).logits
    handle.merge()
    assert model.lm_head.weight is model.get_input_embeddings().weight
    torch.testing.assert_close(model(tokens).logits, adapted)
    handle.detach()
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_an_untied_head_stays(tokens):
    model = tiny_llama(tie_word_embeddings=False)
    head = model.lm_head.weight.clone()
    handle = attach(model, adapter("trainable_tokens", ids=(5, 9)))
    noisy(handle.parameters(), 1.0)
    handle.merge()
    assert torch.equal(model.lm_head.weight, head)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((), "no token is given"),
        ((1, 64), r"ids \[64\] are not in the vocabulary of 64"),
        ((3, 3), "contain a token twice"),
    ],
)
def test_tokens_that_do_not_fit_are_named(ids, message, llama):
    with pytest.raises(AdapterlabError, match=message):
        attach(llama, adapter("trainable_tokens", ids=ids))


def test_conv1d_is_adapted_transposed(tokens):
    model = tiny_gpt2()
    handle = attach(model, small("lora"), targets="c_fc")
    noisy(handle.parameters())
    before = model.transformer.h[0].mlp.c_fc.weight.clone()
    delta = handle.deltas()["transformer.h.0.mlp.c_fc"]
    assert delta.shape == before.T.shape
    handle.merge()
    torch.testing.assert_close(model.transformer.h[0].mlp.c_fc.weight, before + delta.T)


def test_a_failure_half_way_leaves_the_model_as_it_was(llama, tokens, monkeypatch):
    structure, answer = repr(llama), llama(tokens).logits
    made = []

    def refuse_the_fifth(self, state):
        made.append(self)
        if len(made) == 5:
            raise RuntimeError("no room")
        torch.nn.Module.__init__(self)
        for name, tensor in state.trainable.items():
            self.register_parameter(name, tensor)
        self.strength, self.enabled, self.merged = 1.0, True, False

    monkeypatch.setattr(Site, "__init__", refuse_the_fifth)
    with pytest.raises(RuntimeError, match="no room"):
        attach(llama, small("lora"))
    assert repr(llama) == structure
    assert torch.equal(llama(tokens).logits, answer)
    assert all(p.requires_grad for p in llama.parameters())
