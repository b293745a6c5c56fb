"""Parameters that the checkpoint did not have, such as a new classifier head: trained fully beside any adapter.

>>> from torch import nn
>>> model = nn.ModuleDict({"body": nn.Linear(4, 4), "head": nn.Linear(4, 2)})
>>> mark_new_heads(model, ["head.weight", "head.bias"])
>>> list(new_head_parameters(model)), new_head_modules(model)
(['head.bias', 'head.weight'], {'head'})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

_MARK = "adapterlab_new_heads"


def mark_new_heads(model: nn.Module, names: Iterable[str]) -> None:
    """Record which parameters of a model are new: adapters skip them, and training updates them directly.

    Args:
        model: The model to mark.
        names: Paths of the parameters that the checkpoint did not have.
    """
    vars(model)[_MARK] = tuple(sorted(names))


def mark_more_heads(model: nn.Module, names: Iterable[str]) -> Callable[[nn.Module], None]:
    """Mark further parameters as new.

    Args:
        model: The model.
        names: Paths of the parameters.

    Returns:
        A function that takes the model (or a copy of it) and removes the marks that were added.
    """
    before: tuple[str, ...] | None = vars(model).get(_MARK)
    added = set(names) - set(before or ())
    if added:
        mark_new_heads(model, {*(before or ()), *added})

    def undo(model: nn.Module) -> None:
        left = set(vars(model).get(_MARK, ())) - added
        if before is None and not left:
            vars(model).pop(_MARK, None)
        elif added:
            mark_new_heads(model, left)

    return undo


def new_head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the new parameters of a model by path; empty for a model that was never marked.

    Args:
        model: A model.
    """
    return {name: model.get_parameter(name) for name in vars(model).get(_MARK, ())}


def new_head_modules(model: nn.Module) -> set[str]:
    """Return the paths of the modules that hold a new parameter.

    Args:
        model: A model.
    """
    return {name.rpartition(".")[0] for name in vars(model).get(_MARK, ())}


@torch.no_grad()
def initialize(parameters: Mapping[str, nn.Parameter], seed: int, std: float = 0.02) -> None:
    """Set parameters to random start values that depend on `seed` alone.

    Args:
        parameters: Parameters by path. Matrices are drawn from a normal distribution with mean 0, parameters of one
            dimension are set to 0 if their name ends in `bias` and to 1 otherwise (gains).
        seed: Seed of a generator of its own; the global one is not used.
        std: Standard deviation of the normal distribution, by default that of transformers' models.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters.items():
        if parameter.ndim > 1:
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
