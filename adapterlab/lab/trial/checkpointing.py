"""Gradient checkpointing: recompute a block's activations in the backward pass instead of storing them.

>>> import torch
>>> model = nn.Linear(2, 2)
>>> with checkpointed(model):
...     model(torch.ones(1, 2)).shape
torch.Size([1, 2])
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def checkpointed(model: nn.Module, enabled: bool = True) -> Iterator[None]:
    """Checkpoint the transformer blocks of a model for the duration of a `with` block.

    transformers' own switch works only in training mode; this one works in any mode. The model must not fill a key-value
    cache, which the second forward pass through a block would fill twice.

    Args:
        model: The model; blocks are modules of transformers' `GradientCheckpointingLayer`.
        enabled: False to change nothing.
    """
    blocks = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)] if enabled else []
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
