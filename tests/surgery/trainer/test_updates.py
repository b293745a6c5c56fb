"""A method's own penalty, update, schedule and learning rates under Trainer: as in a loop that calls them by hand."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

import adapterlab
from adapterlab.errors import AdapterlabError
from tests.conftest import tiny_llama

ADALORA = {"rank": 4, "keep": 0.5, "total_steps": 60, "warmup_steps": 10, "final_steps": 20, "penalty": 0.5}


ARGUMENTS = TrainingArguments("unused", use_cpu=True), TrainerState(), TrainerControl()


def values(handle):
    return torch.cat([site.state["values"] for site in handle.sites.values()])


def test_adalora_prunes_under_trainer_and_did_not_without_the_callback(trainer):
    model = tiny_llama()
    handle = adapterlab.attach(model, adapterlab.adapter("adalora", **ADALORA))
    trainer(model, callbacks=[adapterlab.TrainerCallback(handle)], max_steps=12).train()
    assert handle.adapter.total_steps == 12
    assert (handle.adapter.warmup_steps, handle.adapter.final_steps) == (2, 4)
    assert (values(handle) == 0).sum() == len(values(handle)) // 2

    other = tiny_llama()
    plain = adapterlab.attach(other, adapterlab.adapter("adalora", **ADALORA))
    run = trainer(other, "plain", max_steps=12)
    run.train()
    assert (values(plain) == 0).sum() == 0
    with pytest.warns(UserWarning, match="adalora was trained without its own update .*TrainerCallback"):
        run.save_model()


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.1])
def test_a_step_is_that_of_a_loop_with_the_penalty_in_the_loss(trainer, accumulation, max_grad_norm):
    """One epoch of 16 rows in batches of 4: the loop adds the penalty to the mean loss of each step and clips the sum."""
    method = adapterlab.adapter("adalora", **ADALORA)
    model = tiny_llama()
    handle = adapterlab.attach(model, method)
    steps = 4 // accumulation
    settings = {"gradient_accumulation_steps": accumulation, "max_grad_norm": max_grad_norm, "optim": "sgd"}
    run = trainer(
        model,
        callbacks=[adapterlab.TrainerCallback(handle)],
        max_steps=steps,
        lr_scheduler_type="constant",
        learning_rate=0.5,
        **settings,
    )
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].clone()), with_kwargs=True
    )
    run.train()

    other = tiny_llama()
    by_hand = adapterlab.attach(other, method.scheduled(steps))
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.5)
    for step in range(steps):
        rows = torch.cat(seen[step * accumulation : (step + 1) * accumulation])
        (other(input_ids=rows, labels=rows).loss + by_hand.regularizer()).backward()
        if max_grad_norm:
            torch.nn.utils.clip_grad_norm_(by_hand.parameters(), max_grad_norm)
        optimizer.step()
        by_hand.after_step(step)
        optimizer.zero_grad()
    for own, hand in zip(handle.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(own, hand, rtol=1e-4, atol=1e-6)
    assert not torch.equal(handle.parameters()[0], adapterlab.attach(tiny_llama(), method).parameters()[0])


def test_mixed_precision_scales_the_penalty_with_the_loss(llama):
    """The gradients of a loss that a scaler multiplied by 1024 are divided by it before the step."""

    class Scaled:
        class scaler:  # noqa: N801
            get_scale = staticmethod(lambda: 1024.0)

    handle = adapterlab.attach(llama, adapterlab.adapter("adalora", **ADALORA))
    callback = adapterlab.TrainerCallback(handle)
    callback.on_step_begin(*ARGUMENTS, optimizer=Scaled())
    scaled = [p.grad.clone() for p in handle.parameters() if p.grad is not None]
    for p in handle.parameters():
        p.grad = None
    handle.regularizer().backward()
    plain = [p.grad for p in handle.parameters() if p.grad is not None]
    torch.testing.assert_close(scaled, [1024 * g for g in plain])


def test_a_skipped_step_is_not_measured(llama):
    class Skipped:
        step_was_skipped = True

    handle = adapterlab.attach(llama, adapterlab.adapter("adalora", **ADALORA))
    adapterlab.TrainerCallback(handle).on_optimizer_step(*ARGUMENTS, optimizer=Skipped())
    assert handle.steps_taken == 0


def test_an_adapter_that_the_trainer_does_not_know_is_named(trainer):
    model = tiny_llama()
    first = adapterlab.attach(model, adapterlab.adapter("lora"))
    first.detach()
    with pytest.raises(
        AdapterlabError, match="does not train any of the parameters of lora: attach the adapter before"
    ):
        trainer(model, callbacks=[adapterlab.TrainerCallback(first)]).train()


def plus():
    return adapterlab.adapter("lora", rank=2, lr_ratio=16.0)


def test_ignored_learning_rates_are_named(trainer):
    model = tiny_llama()
    handle = adapterlab.attach(model, plus())
    with pytest.warns(UserWarning, match="relative to the others, {'b': 16.0}, which this optimizer ignores"):
        trainer(model, callbacks=[adapterlab.TrainerCallback(handle)], max_steps=1).train()


@pytest.mark.parametrize("warmup", [0, 3])
def test_trainer_keeps_the_learning_rates_of_lora_plus(trainer, warmup):
    model = tiny_llama()
    handle = adapterlab.attach(model, plus())
    run = trainer(
        model,
        callbacks=[adapterlab.TrainerCallback(handle)],
        optimizer=lambda args: adapterlab.optimizer_for(handle, args),
        warmup_steps=warmup,
        lr_scheduler_type="constant_with_warmup",
        max_steps=2,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run.train()
    slow, fast = run.optimizer.param_groups
    assert fast["lr"] == pytest.approx(16 * slow["lr"])
    assert fast["lr"] > 0
    assert {id(p) for p in fast["params"]} == {id(site.b) for site in handle.sites.values()}


def test_gradient_checkpointing_trains_the_adapter(trainer):
    trained = []
    for checkpointing in (False, True):
        model = tiny_llama()
        handle = adapterlab.attach(model, adapterlab.adapter("lora", rank=2))
        trainer(model, gradient_checkpointing=checkpointing, max_steps=2).train()
        trained.append(torch.cat([p.detach().flatten() for p in handle.parameters()]))
    torch.testing.assert_close(*trained)
    assert trained[0][-1] != 0
