"""Gradients under reentrant checkpointing, which follows them only if an input of the checkpointed block trains.

transformers makes the output of the token embeddings train for this. A model without them (images, sound) would lose
the gradients of every adapter, so the inputs of its stacks of blocks are made to train here.

>>> hooks = keep_gradients(nn.Sequential(nn.Linear(2, 2)))
>>> hooks
[]
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_layers import GradientCheckpointingLayer

from adapterlab.surgery.model.call import Args, Kwargs


def keep_gradients(model: nn.Module) -> list[RemovableHandle]:
    """Make floating-point inputs of every stack of blocks train while it is checkpointed in the reentrant way.

    Args:
        model: The model.

    Returns:
        The hooks, one for each module that holds a list of blocks.
    """
    lists = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and any(isinstance(block, GradientCheckpointingLayer) for block in module)
    ]
    owners = dict.fromkeys(model.get_submodule(path.rpartition(".")[0]) for path in lists)
    return [owner.register_forward_pre_hook(_make_inputs_train, with_kwargs=True) for owner in owners]


def _make_inputs_train(owner: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
    if not any(
        _reentrant(block) for blocks in owner.children() if isinstance(blocks, nn.ModuleList) for block in blocks
    ):
        return None
    return tuple(map(_trains, args)), {name: _trains(value) for name, value in kwargs.items()}


def _reentrant(block: nn.Module) -> bool:
    if not (isinstance(block, GradientCheckpointingLayer) and block.training and block.gradient_checkpointing):
        return False
    function = getattr(block, "_gradient_checkpointing_func", None)
    options = getattr(getattr(function, "own", function), "keywords", {})
    return bool(options.get("use_reentrant", True))


def _trains(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad:
        return value.detach().requires_grad_(True)
    return value
