"""Routed experts and skills against PEFT: the same tensors give the same logits and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PolyConfig, XLoraConfig, get_peft_model

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import noisy
from tests.conftest import tiny_llama

TARGETS = ["q_proj", "v_proj", "down_proj"]


def agree(a, b):
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("splits", [1, 2])
def test_poly(splits, tokens):
    model = tiny_llama().double()
    config = PolyConfig(task_type="CAUSAL_LM", r=3, n_tasks=3, n_skills=2, n_splits=splits, target_modules=TARGETS)
    theirs = get_peft_model(copy.deepcopy(model), config).double().eval()
    method = adapter("poly", rank=3, tasks=3, skills=2, splits=splits)
    handle = attach(model, method, targets=TARGETS)
    noisy(handle.parameters())
    router, *sites = handle.sites.values()
    layers = [m for m in theirs.modules() if hasattr(m, "poly_lora_A") and hasattr(m, "base_layer")]
    for site, layer, logits in zip(sites, layers, router.logits, strict=True):
        with torch.no_grad():
            layer.poly_lora_A["default"].copy_(site.a)
            layer.poly_lora_B["default"].copy_(site.b)
            layer.poly_router["default"].module_logits.copy_(logits.flatten(1))
    tasks = torch.tensor([2, 1])
    answers = [m(input_ids=tokens, task_ids=tasks).logits for m in (model, theirs)]
    agree(*answers)
    for answer in answers:
        answer.square().mean().backward()
    for i, (site, layer) in enumerate(zip(sites, layers, strict=True)):
        agree(site.a.grad, layer.poly_lora_A["default"].grad)
        agree(site.b.grad, layer.poly_lora_B["default"].grad)
        agree(router.logits.grad[i].flatten(1), layer.poly_router["default"].module_logits.grad)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"layerwise": True, "temperature": 0.5}, {"layerwise_scalings": True, "softmax_temperature": 0.5}),
        ({"depth": 3, "hidden": 10, "weight": 2.0}, {"xlora_depth": 3, "xlora_size": 10, "global_scaling_weight": 2.0}),
        ({"top_k": 2}, {"top_k_lora": 2}),
        ({"top_k": 2, "renormalize": True}, {"top_k_lora": 2, "enable_softmax_topk": True, "enable_softmax": False}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_xlora(ours, theirs, tokens, tmp_path):
    model = tiny_llama().double()
    model.config.use_cache = False
    method = adapter("xlora", experts=3, rank=2, alpha=4.0, **ours)
    handle = attach(model, method, targets=TARGETS)
    noisy(handle.parameters())
    router, *sites = handle.sites.values()
    base = tiny_llama().double()
    base.config.use_cache = False
    lora = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=TARGETS))
    layers = [m for m in lora.modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")]
    for expert in range(3):
        with torch.no_grad():
            for site, layer in zip(sites, layers, strict=True):
                layer.lora_A["default"].weight.copy_(site.a[expert])
                layer.lora_B["default"].weight.copy_(site.b[expert])
        lora.save_pretrained(tmp_path / str(expert))
    config = XLoraConfig(
        task_type="CAUSAL_LM",
        hidden_size=32,
        adapters={str(i): str(tmp_path / str(i)) for i in range(3)},
        use_trainable_adapters=True,
        xlora_dropout_p=0.0,
        **theirs,
    )
    plain = tiny_llama().double()
    plain.config.use_cache = False
    other = get_peft_model(plain, config).double().eval()
    linears = [m for m in other.base_model.internal_xlora_classifier.layers if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for i, linear in enumerate(linears):
            linear.weight.copy_(getattr(router, f"w{i}"))
            linear.bias.copy_(getattr(router, f"b{i}"))
    answers = [m(input_ids=tokens).logits for m in (model, other)]
    agree(*answers)
    for answer in answers:
        answer.square().mean().backward()
    for i, linear in enumerate(linears):
        agree(getattr(router, f"w{i}").grad, linear.weight.grad)
    theirs_layers = [m for m in other.modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")]
    for site, layer in zip(sites, theirs_layers, strict=True):
        for expert in range(3):
            agree(site.a.grad[expert], layer.lora_A[str(expert)].weight.grad)
            agree(site.b.grad[expert], layer.lora_B[str(expert)].weight.grad)
