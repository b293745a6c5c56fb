"""One linear layer adapted twice, by this library and by PEFT with the same tensors, and what the two must agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import peft
import torch
from torch import Tensor, nn
from torch.nn.functional import linear as affine

from adapterlab.adapters.context import Role
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.state import State
from tests.adapters.methods import context, moved


@dataclass(frozen=True)
class Twin:
    """A method beside PEFT's configuration of the same thing."""

    method: LinearAdapter
    config: peft.PeftConfig
    tensors: Callable[[State], Mapping[str, Tensor]]
    """From a state, PEFT's trainable tensors by attribute: a rearrangement of the state's own."""
    frozen: Callable[[State], Mapping[str, Tensor]] = lambda state: {}
    shape: tuple[int, int] = (12, 8)
    role: Role = Role.OTHER
    rtol: float = 1e-6
    """Larger only where PEFT computes in float32 whatever it is given."""
    input_gradient: bool = True
    """Whether PEFT's gradient of the input is right; where not, ours is held against its merged weight."""


class OneLayer(nn.Module):
    """What PEFT needs to be given: a model with a layer of a known name."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        with torch.no_grad():
            self.layer.weight.copy_(weight)
            self.layer.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@dataclass(frozen=True)
class Plain:
    """A linear layer and nothing else."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


def the_same_as_peft(twin: Twin) -> None:
    """Assert the same output, merged weight, and gradients of the input and of every trained tensor."""
    generator = torch.Generator().manual_seed(7)
    rows, columns = twin.shape
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64) / columns**0.5
    bias = torch.randn(rows, generator=generator, dtype=torch.float64)
    x = torch.randn(3, 5, columns, generator=generator, dtype=torch.float64)
    toward = torch.randn(3, 5, rows, generator=generator, dtype=torch.float64)

    state = moved(twin.method.init(weight, context(weight, role=twin.role)), size=0.2)
    leaves = {name: t.clone().requires_grad_() for name, t in state.trainable.items()}
    ours_x = x.clone().requires_grad_()
    ours = twin.method.forward(State(leaves, state.frozen, state.derived), ours_x, Plain(weight, bias))
    (ours * toward).sum().backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    assert all(gradient is not None for gradient in gradients.values())

    model = peft.get_peft_model(OneLayer(weight, bias), twin.config).double()
    layer = model.base_model.model.layer
    given = twin.tensors(state)
    for name, tensor in {**given, **twin.frozen(state)}.items():
        place(layer, name, tensor.clone())
    theirs_x = x.clone().requires_grad_()
    theirs = model(theirs_x)
    (theirs * toward).sum().backward()

    close = {"rtol": twin.rtol, "atol": twin.rtol}
    torch.testing.assert_close(ours, theirs.to(ours.dtype), **close)
    if twin.input_gradient:
        torch.testing.assert_close(ours_x.grad, theirs_x.grad, **close)
    expected = twin.tensors(State(gradients, state.frozen, state.derived))
    for name in given:
        theirs_gradient = find(layer, name).grad
        torch.testing.assert_close(
            expected[name], theirs_gradient.to(torch.float64), **close, msg=lambda m, name=name: f"{name}: {m}"
        )
    merged = model.merge_and_unload().layer
    torch.testing.assert_close(twin.method.weight(state, weight), merged.weight.detach(), **close)
    torch.testing.assert_close(twin.method.bias(state, bias), merged.bias.detach(), **close)
    torch.testing.assert_close(ours_x.grad, toward @ merged.weight.detach(), **close)


def find(layer: nn.Module, name: str) -> Tensor:
    """PEFT's tensor at `attribute` or `attribute.weight`, of the default adapter."""
    attribute, _, rest = name.partition(".")
    found = getattr(layer, attribute)["default"]
    return getattr(found, rest) if rest else found


def place(layer: nn.Module, name: str, tensor: Tensor) -> None:
    """Give PEFT's tensor of this name these values."""
    target = find(layer, name)
    if target.is_floating_point():
        assert target.shape == tensor.shape, f"{name}: {tuple(target.shape)} there, {tuple(tensor.shape)} here"
        with torch.no_grad():
            target.copy_(tensor)
    else:
        getattr(layer, name)["default"] = tensor
