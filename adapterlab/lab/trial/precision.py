"""Precision of a trial: the dtype of the frozen base, and autocast around all that runs the model.

In `bf16` the base is in bfloat16 and the model runs under autocast. Everything that is trained stays in float32, with its
gradients and the optimizer; so do buffers, such as the frequencies of rotary embeddings.

>>> model = nn.Linear(2, 2)
>>> cast_base(model, "bf16")
>>> with autocast(torch.device("cpu"), "bf16"):
...     model.weight.dtype, model(torch.ones(1, 2)).dtype
(torch.bfloat16, torch.bfloat16)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.new_heads import new_head_parameters
from adapterlab.tasks.base import Control, Task

BASE_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float64": torch.float64}
"""Dtype of the frozen base by precision. Studies run in the first two; `float64` is for measurements of rounding."""


def cast_base(model: nn.Module, precision: str) -> None:
    """Cast the parameters of a base model in place; in `bf16`, new heads keep their dtype, since they are trained.

    Args:
        model: The model, before anything is attached.
        precision: A key of `BASE_DTYPES`.

    Raises:
        AdapterlabError: If there is no such precision.
    """
    if precision not in BASE_DTYPES:
        raise AdapterlabError(
            f"a trial has the precision {precision!r}, which is not decided or not known: prepare its study with "
            f"adapterlab.lab.run.prepare, or give one of {', '.join(BASE_DTYPES)}"
        )
    dtype = BASE_DTYPES[precision]
    if precision != "bf16":
        model.to(dtype=dtype)
        return
    trained = set(new_head_parameters(model).values())
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter not in trained:
            parameter.data = parameter.data.to(dtype)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return a context, which is also a decorator, for code that runs the model: autocast in `bf16`, no change else.

    Casts of parameters are not cached, since a cast that was made without gradients would be used where they are needed.

    Args:
        device: Device of the model.
        precision: A key of `BASE_DTYPES`.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def losses(
    task: Task, model: nn.Module, batch: Mapping[str, Tensor], control: Control, precision: str
) -> Iterator[Tensor]:
    """Yield the training loss in parts, as `Task.losses` does, each computed under autocast.

    The caller differentiates each part outside of autocast. The backward pass of an operation runs in the dtype that
    autocast chose for it; under autocast, what an adapter computes in float32 would be differentiated in bfloat16.

    Args:
        task: The task, which defines the loss.
        model: The model with its adapter.
        batch: Inputs by name, on the model's device.
        control: The adapter's strength.
        precision: A key of `BASE_DTYPES`.
    """
    device = next(iter(batch.values())).device
    parts = task.losses(model, batch, control)
    while True:
        with autocast(device, precision):
            loss = next(parts, None)
        if loss is None:
            return
        yield loss
