"""Dtypes of an adapter, restored after an evaluation of Trainer that casts the whole model to half precision.

>>> from adapterlab import adapter, attach
>>> handle = attach(torch.nn.Sequential(torch.nn.Linear(4, 4)), adapter("lora", rank=2))
>>> dtypes_of(handle)
{'0/a': torch.float32, '0/b': torch.float32}
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapterlab.surgery.handle import Handle

if TYPE_CHECKING:
    from transformers import TrainingArguments


def dtypes_of(handle: Handle) -> dict[str, torch.dtype]:
    """Return the dtypes of the floating-point tensors of an adapter, by path and name.

    Args:
        handle: The attached adapter.
    """
    return {name: tensor.dtype for name, tensor in _tensors(handle).items()}


def restore_dtypes(handle: Handle, dtypes: Mapping[str, torch.dtype], args: TrainingArguments) -> None:
    """Cast an adapter's tensors back that an evaluation in half precision has cast, and warn that they are rounded.

    Args:
        handle: The attached adapter.
        dtypes: Result of `dtypes_of` before the evaluation.
        args: Arguments of the trainer; nothing is done without `bf16_full_eval` or `fp16_full_eval`.
    """
    full_eval = [name for name in ("bf16_full_eval", "fp16_full_eval") if getattr(args, name, False)]
    cast = {name: t for name, t in _tensors(handle).items() if t.dtype != dtypes.get(name, t.dtype)}
    if not full_eval or not cast:
        return
    for name, tensor in cast.items():
        tensor.data = tensor.data.to(dtypes[name])
    warnings.warn(
        f"{full_eval[0]}=True has cast the model: the base stays in half precision, and the values of "
        f"{handle.adapter.name} are rounded to it; save before evaluating, or use "
        f"{full_eval[0].removesuffix('_full_eval')}=True in its place",
        stacklevel=3,
    )


def _tensors(handle: Handle) -> dict[str, Tensor]:
    """Return the floating-point tensors of an adapter by path and name."""
    states = {path: site.state for path, site in handle.sites.items()}
    named = {
        f"{path}/{name}": tensor
        for path, state in states.items()
        for group in (state.trainable, state.frozen, state.derived)
        for name, tensor in group.items()
    }
    return {name: t for name, t in (named | handle.new_heads | handle.trained_too).items() if t.is_floating_point()}
