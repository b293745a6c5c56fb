"""Models that `torch.distributed.fsdp.fully_shard` (FSDP2) has divided over processes, after an adapter was attached.

Outside a forward and backward pass, each process holds a share of every parameter. Functions that read parameters as a
whole run here with the gathered ones in their place; all processes must call them together.

>>> is_sharded(nn.Linear(2, 2))
False
>>> on_first(nn.Linear(2, 2), lambda path: True, lambda: "written")
'written'
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from adapterlab.errors import AdapterlabError

T = TypeVar("T")


def is_sharded(model: nn.Module) -> bool:
    """Return True if `fully_shard` was called on a model or on a part of it.

    Args:
        model: The model.
    """
    return any(isinstance(module, FSDPModule) for module in model.modules())


def refuse_sharded(model: nn.Module, problem: str) -> None:
    """Raise an error if a model is divided over processes.

    Args:
        model: The model.
        problem: What cannot be done, and what to do in its place.

    Raises:
        AdapterlabError: The model is divided.
    """
    if is_sharded(model):
        raise AdapterlabError(f"fully_shard has divided the model over processes: {problem}")


def reshard(model: nn.Module) -> None:
    """Free the gathered parameters of a divided model; the root's stay gathered after a forward pass alone.

    Args:
        model: The model, divided or not.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gathered(tensor: Tensor) -> Tensor:
    """Return a divided tensor as a whole; gradients flow to the shares.

    Args:
        tensor: A parameter, divided or not; all processes call this for the same one.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def assign(parameter: Tensor, value: Tensor) -> None:
    """Set a parameter, divided or not, to a value that every process has.

    Args:
        parameter: The parameter.
        value: The whole value.
    """
    if isinstance(parameter, DTensor):
        value = value.to(parameter.device, parameter.dtype)
        value = distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    parameter.copy_(value)


@contextmanager
def whole(
    model: nn.Module,
    wanted: Callable[[str], bool],
    values: Mapping[str, Tensor] | None = None,
    *,
    kept: bool = True,
    changed: bool = False,
) -> Iterator[None]:
    """Yield with parameters of a divided model whole, with their gradients; afterwards the shares are back.

    Args:
        model: The model.
        wanted: Returns True for the path of a parameter that is read.
        values: Whole tensors by path, such as a full state dict, in place of gathering; other processes are not asked.
        kept: False if this process helps to gather and reads nothing.
        changed: True if every process changes the whole parameters in the same way, which then changes the shares.

    Raises:
        AdapterlabError: `values` lacks a parameter.
    """
    reshard(model)
    shares: list[tuple[nn.Module, str, nn.Parameter]] = []
    made: dict[nn.Parameter, nn.Parameter] = {}
    try:
        for prefix, module in model.named_modules():
            for name, share in list(module._parameters.items()):
                path = f"{prefix}.{name}".lstrip(".")
                if share is None or not _divided(share) or not wanted(path):
                    continue
                if share not in made:
                    made[share] = _whole(share, path, values)
                if kept:
                    module._parameters[name] = made[share]
                    shares.append((module, name, share))
                else:
                    made[share] = share
        yield
    finally:
        for module, name, share in shares:
            module._parameters[name] = share
            if changed:
                assign(share, made[share])


def _divided(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def _whole(share: nn.Parameter, path: str, values: Mapping[str, Tensor] | None) -> nn.Parameter:
    if values is None:
        parameter = nn.Parameter(gathered(share.detach()), requires_grad=share.requires_grad)
        parameter.grad = None if share.grad is None else gathered(share.grad)
        return parameter
    if path not in values:
        raise AdapterlabError(f"state_dict= lacks {path}: give the full state dict of the model, on this process")
    return nn.Parameter(values[path].to(share.device, share.dtype), requires_grad=share.requires_grad)


def on_first(model: nn.Module, wanted: Callable[[str], bool], task: Callable[[], T]) -> T:
    """Run a task that reads whole parameters: on the first process if the model is divided, which all processes call.

    Args:
        model: The model.
        wanted: Returns True for the path of a parameter that the task reads.
        task: The task; its result must be picklable.

    Returns:
        The result of the task, on every process.

    Raises:
        Exception: The task raised it, on every process.
    """
    if not is_sharded(model):
        return task()
    first = dist.get_rank() == 0
    outcome: list[Any] = [None, None]
    with whole(model, wanted, kept=first):
        if first:
            try:
                outcome[0] = task()
            except Exception as error:
                outcome[1] = error
    if outcome[1] is not None and not _can_be_sent(outcome[1]):
        outcome[1] = AdapterlabError(str(outcome[1]))
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return cast(T, outcome[0])


def _can_be_sent(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an exception's own constructor raises
        return False
    return True
