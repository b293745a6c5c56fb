"""The theme of the singular basis against PEFT's own modules."""

from __future__ import annotations

import peft
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PsoftConfig
from torch import nn

from adapterlab.adapters.state import State
from adapterlab.adapters.svd.adalora import AdaLoRA
from adapterlab.adapters.svd.pissa import PiSSA
from adapterlab.adapters.svd.psoft import PSOFT
from tests.adapters.methods import context
from tests.adapters.oracles.functional import Plain, the_same_in_peft


def test_pissa_starts_and_answers_the_same():
    model = nn.Sequential()
    model.layer = nn.Linear(16, 12)
    weight = model.layer.weight.data.clone()
    config = LoraConfig(r=3, lora_alpha=3, init_lora_weights="pissa", target_modules=["layer"])
    layer = peft.get_peft_model(model, config).base_model.model.layer
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    method = PiSSA(rank=3)
    start = method.init(weight, context(weight))
    torch.testing.assert_close(start["b"] @ start["a"], (b @ a).data, rtol=1e-4, atol=1e-5)

    layer.double()  # PEFT decomposes in float32 alone
    b0, a0 = b.data.clone(), a.data.clone()
    weight = layer.base_layer.weight.data + b0 @ a0
    with torch.no_grad():
        for tensor in (a, b):
            tensor += 0.2 * torch.randn_like(tensor)
    ours = {"a": a.data.clone().requires_grad_(), "b": b.data.clone().requires_grad_()}
    state = State(ours, {"a0": a0, "b0": b0})
    x, toward = torch.randn(5, 16, dtype=torch.float64), torch.randn(5, 12, dtype=torch.float64)
    answers = method.forward(state, x, Plain(weight, layer.base_layer.bias)), layer(x)
    for answer in answers:
        (answer * toward).sum().backward()
    layer.merge()
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close([ours["a"].grad, ours["b"].grad], [a.grad, b.grad], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(method.weight(state, weight), layer.base_layer.weight.data, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("terms", [0, 4])
def test_psoft_is_the_same(relaxed, terms):
    def tensors(state):
        given = {
            "psoft_R.default.weight": state["skew"],
            "_psoft_A_cache.default": state["vt"],
            "_psoft_B_cache.default": state["u"] * state["s"],
        }
        if relaxed:
            given |= {"psoft_R.default.vector_a": state["alpha"], "psoft_R.default.vector_b": state["beta"]}
        return given

    config = PsoftConfig(
        r=4,
        psoft_alpha=4,
        psoft_mag_a=relaxed,
        psoft_mag_b=relaxed,
        use_cayley_neumann=terms > 0,
        num_cayley_neumann_terms=5,
    )
    the_same_in_peft(PSOFT(rank=4, relaxed=relaxed, neumann_terms=terms), config, tensors)


SCHEDULE = {"tinit": 2, "tfinal": 3, "deltaT": 2, "total_step": 14}


def test_adalora_answers_the_same():
    config = AdaLoraConfig(init_r=4, target_r=2, lora_alpha=6, **SCHEDULE)

    def tensors(state):
        return {
            "lora_A.default": state["q"],
            "lora_E.default": state["values"][:, None],
            "lora_B.default": state["p"],
            # PEFT adds 1e-5 to the rank that it divides by.
            "ranknum.default": torch.tensor([4 - 1e-5], dtype=torch.float64),
        }

    the_same_in_peft(AdaLoRA(rank=4, alpha=6.0, penalty=0.0), config, tensors)


def test_adalora_prunes_the_same():
    """Step by step, given the same tensors and gradients at three sites."""
    ours = AdaLoRA(rank=6, keep=4 / 6, total_steps=14, warmup_steps=2, final_steps=3, interval=2)
    model = nn.Sequential()
    for name, (rows, columns) in {"a": (8, 10), "b": (10, 8), "c": (6, 12)}.items():
        model.add_module(name, nn.Linear(columns, rows))
    config = AdaLoraConfig(init_r=6, target_r=4, target_modules={"a", "b", "c"}, **SCHEDULE)
    theirs = peft.get_peft_model(model, config).base_model
    layers = [getattr(theirs.model, name) for name in "abc"]
    states = [ours.init(layer.base_layer.weight.data, context(layer.base_layer.weight.data)) for layer in layers]
    pairs = [
        (state[part], tensor["default"])
        for state, layer in zip(states, layers, strict=True)
        for part, tensor in (("p", layer.lora_B), ("q", layer.lora_A), ("values", layer.lora_E))
    ]
    generator = torch.Generator().manual_seed(0)
    pruned = []
    for step in range(12):
        with torch.no_grad():
            for mine, other in pairs:
                moved = mine + 0.1 * torch.randn(mine.shape, generator=generator)
                mine.copy_(moved)
                other.copy_(moved.reshape(other.shape))
                mine.grad = torch.randn(mine.shape, generator=generator)
                other.grad = mine.grad.reshape(other.shape).clone()
            ours.after_step(states, step)
        theirs.update_and_allocate(step)
        for mine, other in pairs:
            torch.testing.assert_close(mine, other.data.reshape(mine.shape))
        pruned.append(sum(int((state["values"] == 0).sum()) for state in states))
    assert pruned[-1] == 18 - 12
    assert pruned[:3] == [0, 0, 0]
    assert any(0 < n < 6 for n in pruned)
