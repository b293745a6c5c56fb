"""The theme of the singular basis against PEFT's own modules."""

from __future__ import annotations

import peft
import pytest
import torch
from peft import LoraConfig, PsoftConfig
from torch import nn

from adapterlab.adapters.base import State
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
