"""Adapters in half precision: gradients scaled for float16, models cast after attach, evaluation in bf16, and float64."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainingArguments

import adapterlab
from adapterlab.surgery import Handle, attach
from tests.adapters.methods import ALL, noisy, small
from tests.conftest import tiny_llama

TOKENS = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(3))
SCALE = 1024.0


def adapted(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Handle]:
    model = tiny_llama().to(dtype)
    handle = attach(model, small(name))
    noisy(handle.parameters(), 1e-4 if name == "randlora" else 0.02)  # which multiplies by 640 / rank
    return model, handle


def loss(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(0)  # for methods that draw random numbers
    logits = model(TOKENS).logits.float()
    return 10 * (logits * torch.linspace(-1, 1, logits.numel()).cos().view_as(logits)).mean()


def gradient(handle: Handle) -> torch.Tensor:
    return torch.cat(
        [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten().float() for p in handle.parameters()]
    )


def scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=SCALE)


@pytest.mark.parametrize("name", ALL)
def test_scaled_gradients_of_float16_are_those_of_float32(name):
    model, handle = adapted(name)
    loss(model).backward()
    expected = gradient(handle)
    for parameter in handle.parameters():
        parameter.grad = None
    with torch.autocast("cpu", dtype=torch.float16):
        found = loss(model)
    scaler().scale(found).backward()
    scaled = gradient(handle)
    assert scaled.isfinite().all()
    assert (scaled / SCALE - expected).norm() <= 5e-3 * expected.norm()


@pytest.mark.parametrize("name", ALL)
def test_a_model_cast_to_float16_after_attach_computes_the_same(name):
    model, handle = adapted(name)
    expected = loss(model)
    model.half()
    assert model(TOKENS).logits.dtype == torch.float16
    found = loss(model)
    assert abs(found - expected) <= 2e-3
    found.backward()
    assert gradient(handle).isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_the_state_on_a_float64_model_is_float64(name):
    model, handle = adapted(name, torch.float64)
    tensors = [t for site in handle.sites.values() for t in site.state.tensors() if t.is_floating_point()]
    assert {t.dtype for t in tensors} == {torch.float64}
    assert model(TOKENS).logits.dtype == torch.float64
    parameter = max(handle.parameters(), key=torch.numel)
    torch.manual_seed(0)
    (own,) = torch.autograd.grad(model(TOKENS).logits.square().mean(), [parameter], allow_unused=True)
    assert own is not None
    assert own.dtype == torch.float64


@pytest.mark.parametrize("fused", [False, True])
def test_adalora_measures_importance_by_unscaled_gradients(fused):
    states = []
    for scale in (1.0, SCALE):
        model, handle = adapted("adalora")
        optimizer = torch.optim.AdamW(handle.parameters(), lr=1e-3, fused=fused)
        mixed = torch.amp.GradScaler("cpu", init_scale=scale)
        mixed.scale(loss(model) + handle.regularizer()).backward()
        mixed.step(optimizer)
        handle.after_step(0)
        states.append(next(iter(handle.sites.values())).state)
    for name in ("sensitivity_p", "sensitivity_q", "values"):
        torch.testing.assert_close(states[1][name], states[0][name], rtol=1e-4, atol=1e-9)
    assert states[0]["sensitivity_q"].any()


@pytest.mark.parametrize("name", ["hra", "adalora"])
def test_the_gradient_of_a_scaled_penalty_is_that_of_the_penalty(name):
    _, handle = adapted(name)
    handle.regularizer().backward()
    expected = gradient(handle)
    for parameter in handle.parameters():
        parameter.grad = None
    scaler().scale(handle.regularizer()).backward()
    torch.testing.assert_close(gradient(handle) / SCALE, expected)
    assert expected.any()


def trainer(name: str, folder, **settings) -> tuple[Trainer, Handle]:
    model, handle = adapted(name)
    rows = Dataset.from_dict({"input_ids": TOKENS.tolist(), "labels": TOKENS.tolist()})
    args = TrainingArguments(
        str(folder), use_cpu=True, report_to=[], max_steps=1, learning_rate=1e-3, save_strategy="no", disable_tqdm=True,
        dataloader_pin_memory=False, **settings
    )  # fmt: skip
    callbacks = [adapterlab.TrainerCallback(handle)]
    return Trainer(model, args, train_dataset=rows, eval_dataset=rows, callbacks=callbacks), handle


@pytest.mark.filterwarnings("ignore:.* states learning rates:UserWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in ("lora", "oft", "prefix", "full_ft", "pissa") else pytest.mark.soak)
        for n in ALL
    ],
)
def test_training_after_an_evaluation_in_bf16_is_in_float32(name, tmp_path):
    own, handle = trainer(name, tmp_path, bf16_full_eval=True)
    dtypes = [t.dtype for site in handle.sites.values() for t in site.state.tensors()]
    with pytest.warns(UserWarning, match="bf16_full_eval=True has cast the model.*save before evaluating"):
        metrics = own.evaluate()
    assert math.isfinite(metrics["eval_loss"])
    assert [t.dtype for site in handle.sites.values() for t in site.state.tensors()] == dtypes
    before = [p.clone() for p in handle.parameters()]
    own.train()
    assert any(not torch.equal(p, old) for p, old in zip(handle.parameters(), before, strict=True))
    assert {p.dtype for p in handle.parameters()} == {torch.float32}


def test_evaluation_in_autocast_casts_nothing(tmp_path):
    own, handle = trainer("lora", tmp_path, bf16=True)
    before = [p.clone() for p in handle.parameters()]
    own.evaluate()
    assert all(torch.equal(p, old) for p, old in zip(handle.parameters(), before, strict=True))
