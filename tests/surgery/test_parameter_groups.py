"""Learning rates that a method states for some of its tensors, and its penalty over all sites."""

from __future__ import annotations

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import ALL, noisy, small
from tests.conftest import tiny_llama

STATED = {"lora": {"b": 1.0}, "vblora": {"bank": 0.1}, "delora": {"boundary": 0.5}, "poly": {"logits": 100.0}}
"""Ratios by method: VB-LoRA's section 4.1, DeLoRA's appendix B, and the code of Caccia et al. for Poly."""


@pytest.mark.parametrize("name", ALL)
def test_the_groups_hold_every_trained_parameter_once(name, llama):
    handle = attach(llama, small(name))
    groups = handle.parameter_groups(1e-2)
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(handle.parameters())
    assert set(grouped) == set(handle.parameters())
    assert all(group["lr"] == pytest.approx(1e-2 * group["lr_ratio"]) for group in groups)


@pytest.mark.parametrize("name", ALL)
def test_ratios_are_stated_for_tensors_that_exist_and_only_where_a_paper_has_two_rates(name):
    assert dict(small(name).lr_ratios) == STATED.get(name, {})


def test_a_tensor_has_the_rate_that_is_stated_for_it(llama):
    handle = attach(llama, small("vblora"))
    slow = next(group for group in handle.parameter_groups(1.0) if group["lr_ratio"] == 0.1)
    assert [id(p) for p in slow["params"]] == [id(next(iter(handle.sites.values())).bank)]


def test_polys_router_moves_a_hundred_times_as_fast_as_its_skills(llama):
    handle = attach(llama, small("poly"))
    fast = next(group for group in handle.parameter_groups(1e-3) if group["lr_ratio"] == 100)
    assert fast["lr"] == pytest.approx(0.1)
    assert [id(p) for p in fast["params"]] == [id(handle.sites["router"].logits)]


def test_lora_plus_has_pefts_groups(llama):
    """PEFT's optimizer for LoRA+ gives the same rate to the same matrices."""
    theirs = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules="all-linear"))
    optimizer = create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0)
    names = {parameter: name for name, parameter in theirs.named_parameters()}
    expected = sorted(
        (group["lr"], tuple(p.shape)) for group in optimizer.param_groups for p in group["params"] if p in names
    )
    handle = attach(llama, adapter("lora", rank=2, lr_ratio=16.0))
    found = sorted((group["lr"], tuple(p.shape)) for group in handle.parameter_groups(1e-3) for p in group["params"])
    assert found == [(pytest.approx(lr), shape) for lr, shape in expected]


def test_a_scheduler_of_torch_keeps_the_ratio(llama):
    handle = attach(llama, adapter("lora", rank=2, lr_ratio=4.0))
    optimizer = torch.optim.AdamW(handle.parameter_groups(1e-3))
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, 1.0, 2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-4, 2e-3])
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[1]["lr"] == pytest.approx(4 * optimizer.param_groups[0]["lr"])


def test_the_penalty_is_the_mean_over_the_sites(llama):
    handle = attach(llama, adapter("hra", rank=4, penalty=0.5))
    noisy(handle.parameters())
    penalties = [handle.adapter.regularizer(site.state) for site in handle.sites.values()]
    assert len(penalties) == 14
    torch.testing.assert_close(handle.regularizer(), sum(penalties) / 14)


def test_adaloras_penalty_is_what_peft_adds_to_the_loss(llama, tokens):
    """PEFT and the authors' `compute_orth_regu` take the mean of the norms over all matrices of all layers."""
    theirs = get_peft_model(
        tiny_llama(),
        AdaLoraConfig(init_r=3, target_r=2, total_step=10, target_modules="all-linear", orth_reg_weight=0.1),
    )
    handle = attach(llama, adapter("adalora", rank=3))
    noisy(handle.parameters())
    modules = {name.removeprefix("base_model.model."): module for name, module in theirs.named_modules()}
    with torch.no_grad():
        for path, site in handle.sites.items():
            modules[path].lora_A["default"].copy_(site.q)
            modules[path].lora_B["default"].copy_(site.p)
    with_penalty = theirs.base_model(tokens, labels=tokens).loss
    without = theirs.base_model.model(tokens, labels=tokens).loss
    torch.testing.assert_close(handle.regularizer(), with_penalty - without, rtol=1e-4, atol=1e-5)
