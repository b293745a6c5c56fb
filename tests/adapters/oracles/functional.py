"""Our state poured into PEFT's own layer by differentiable functions, so that both give gradients of the same tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import peft
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear as affine

from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.state import State
from tests.adapters.methods import context, moved


@dataclass(frozen=True)
class Plain:
    """A linear layer and nothing else."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


def the_same_in_peft(
    method: LinearAdapter,
    config: peft.PeftConfig,
    tensors: Callable[[State], Mapping[str, Tensor]],
    shape: tuple[int, int] = (12, 16),
    size: float = 0.2,
) -> None:
    """Assert the same output, merged weight and gradients in float64; `tensors` makes PEFT's out of our state."""
    generator = torch.Generator().manual_seed(7)
    rows, columns = shape
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64) / columns**0.5
    bias = torch.randn(rows, generator=generator, dtype=torch.float64)
    x = torch.randn(3, 5, columns, generator=generator, dtype=torch.float64)
    toward = torch.randn(3, 5, rows, generator=generator, dtype=torch.float64)
    state = moved(method.init(weight, context(weight)), size=size)
    method.after_step([state], 0)

    model = nn.Sequential()
    model.layer = nn.Linear(columns, rows)  # some of PEFT's methods start in float32 alone
    config.target_modules = {"layer"}
    layer = peft.get_peft_model(model, config).double().base_model.model.layer
    layer.base_layer.weight.data.copy_(weight)
    layer.base_layer.bias.data.copy_(bias)

    answers = []
    for way in (
        lambda s, x: method.forward(s, x, Plain(weight, bias)),
        lambda s, x: functional_call(layer, dict(tensors(s)), (x,)),
    ):
        leaves = {name: t.clone().requires_grad_() for name, t in state.trainable.items()}
        leaf_x = x.clone().requires_grad_()
        y = way(dataclasses.replace(state, trainable=leaves), leaf_x)
        (y * toward).sum().backward()
        answers.append([y.detach(), leaf_x.grad, *(leaf.grad for leaf in leaves.values())])
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-6, atol=1e-9)

    for name, tensor in tensors(state).items():
        owner, _, last = name.rpartition(".")
        getattr(layer.get_submodule(owner), last).data = tensor.detach().clone()
    layer.merge()
    torch.testing.assert_close(method.weight(state, weight), layer.base_layer.weight.data, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(method.bias(state, bias), layer.base_layer.bias.data, rtol=1e-6, atol=1e-9)
