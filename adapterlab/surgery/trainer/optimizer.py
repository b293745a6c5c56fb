"""Arguments for the optimizer of transformers' Trainer that keep the learning rates that a method states.

>>> from tempfile import TemporaryDirectory
>>> from torch import nn
>>> from transformers import TrainingArguments
>>> from adapterlab import adapter, attach
>>> handle = attach(nn.Sequential(nn.Linear(4, 4)), adapter("lora", rank=2, lr_ratio=16.0))
>>> with TemporaryDirectory() as folder:
...     optimizer, settings = optimizer_for(handle, TrainingArguments(folder, learning_rate=1e-3, use_cpu=True))
>>> optimizer.__name__, [group["lr"] for group in settings["params"]]
('AdamW', [0.001, 0.016])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from adapterlab.surgery.handle import Handle

if TYPE_CHECKING:
    from transformers import TrainingArguments


def optimizer_for(handle: Handle, args: TrainingArguments) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return `optimizer_cls_and_kwargs` of Trainer: its own optimizer, with one group for each stated learning rate.

    Trainer's scheduler multiplies the rates of all groups by the same factor, so their ratios stay (LoRA+ with
    `lr_ratio`, VB-LoRA, DeLoRA, Poly). `args.weight_decay` applies to all parameters of the adapter.

    Args:
        handle: The attached adapter.
        args: The arguments that Trainer gets; `optim` and `learning_rate` are read.

    Returns:
        The class of the optimizer, and its arguments with `params`.
    """
    from transformers import Trainer  # heavy, and needs accelerate

    optimizer, settings = Trainer.get_optimizer_cls_and_kwargs(args)
    groups = handle.parameter_groups(args.learning_rate)
    return optimizer, {**settings, "params": [{**group, "weight_decay": args.weight_decay} for group in groups]}


def ignores_ratios(handle: Handle, optimizer: torch.optim.Optimizer) -> bool:
    """Return True if an optimizer has other ratios of learning rates than the method states.

    Args:
        handle: The attached adapter.
        optimizer: The optimizer, perhaps wrapped.
    """
    rates = {id(p): group.get("initial_lr", group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    stated = [(p, group["lr_ratio"]) for group in handle.parameter_groups(1.0) for p in group["params"]]
    units = [rates[id(p)] / ratio for p, ratio in stated if id(p) in rates]
    return bool(units) and max(units) > min(units) * (1 + 1e-6)
