"""Parameters that no checkpoint had, such as a new classifier's head: trained whole, beside whatever adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

_MARK = "adapterlab_fresh"


def mark_fresh(model: nn.Module, names: Iterable[str]) -> None:
    """Say which parameters of `model` are fresh: adapters leave them alone, and training moves them as they are."""
    vars(model)[_MARK] = tuple(sorted(names))


def fresh_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The fresh parameters of `model` by name; none if it was never marked."""
    return {name: model.get_parameter(name) for name in vars(model).get(_MARK, ())}


def fresh_modules(model: nn.Module) -> set[str]:
    """The paths of the modules that hold a fresh parameter."""
    return {name.rpartition(".")[0] for name in vars(model).get(_MARK, ())}


@torch.no_grad()
def redraw(parameters: Mapping[str, nn.Parameter], seed: int, std: float = 0.02) -> None:
    """Give them a start that `seed` alone decides: normal matrices of deviation `std`, zero biases, unit gains."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters.items():
        if parameter.ndim > 1:
            drawn = torch.empty(parameter.shape).normal_(0.0, std, generator=generator)
            parameter.copy_(drawn)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
