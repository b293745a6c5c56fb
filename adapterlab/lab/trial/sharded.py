"""One trial on a model larger than a device: the base's weights are spread over several processes (FSDP2).

Each process holds a share of every weight and gathers a block's weights while the block runs. What the adapter trains is
small, so that every process holds all of it; only a method that trains as much as the model holds has that spread too.
Each process takes its share of every batch, so that a step is the step of one process with the whole batch, but for which
inputs are dropped where something has dropout.

Every process must be able to hold the model once in main memory, where the adapter is attached before it is spread.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial import train
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig, current
from adapterlab.surgery import Handle
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.tasks import task
from adapterlab.tasks.base import Control, Task


def join(setup: WorkerConfig) -> None:
    """Meet the other processes that share the model."""
    device = torch.device(setup.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, f"file://{setup.meeting}", rank=setup.rank, world_size=setup.ranks)


def run(trial: Trial) -> Outcome:
    """Run one trial together with the other processes, each of which calls this with the same trial."""
    model = copy.deepcopy(train.loaded(trial.model, trial.dtype, task(trial.task).head).model)
    return train.run_on(model, trial, spread)


def spread(model: nn.Module, handle: Handle | None) -> train.Gradient:
    """Leave this process its share of the model's weights; gives how a step's gradient is taken then."""
    device, trained = torch.device(current().device), handle.parameters() if handle is not None else []
    whole = [] if handle is not None and _is_spread_too(model, handle) else trained
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    mesh, apart = init_device_mesh(device.type, (current().ranks,)), set(whole)
    for block in _blocks(model):
        fully_shard(block, mesh=mesh, ignored_params=apart)
    fully_shard(model, mesh=mesh, ignored_params=apart)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The loss is divided by the terms of the whole batch already.
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
    return _SharedGradient(whole, current().micro_batch or 0)


def _is_spread_too(model: nn.Module, handle: Handle) -> bool:
    """Whether what is trained is as large as the model, and nothing looks at it outside the forward pass."""
    own = set(handle.parameters())
    base = sum(p.numel() for p in model.parameters() if p not in own)
    kind = type(handle.adapter)
    aside = kind.regularizer is not Adapter.regularizer or kind.after_step is not Adapter.after_step
    return 2 * handle.parameter_count > base and not aside


def _blocks(model: nn.Module) -> list[nn.Module]:
    """What is gathered at one time; the whole model where no blocks can be made out."""
    try:
        return [block.module for block in Decoder(model).blocks]
    except AdapterlabError:
        return []


@dataclass(frozen=True)
class _SharedGradient:
    """Adds the gradient of a batch's mean loss, of which every process takes its rows; gives that loss."""

    whole: list[nn.Parameter]
    """What every process holds all of, and must have the same gradient of."""
    size: int
    note: str = ""

    def __call__(self, the_task: Task, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> float:
        device, terms = torch.device(current().device), the_task.terms(batch)
        total = torch.zeros((), dtype=torch.float64)
        for rows, weight in _pieces(len(next(iter(batch.values())))):
            piece = {name: tensor[rows].to(device) for name, tensor in batch.items()}
            for loss in the_task.losses(model, piece, control):
                own = loss * (weight / terms)
                own.backward()
                total += own.item()
        total = total.to(device)
        dist.all_reduce(total)
        for parameter in self.whole:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
        return total.item()


def _pieces(count: int) -> Iterator[tuple[Tensor, float]]:
    """The rows of each of this process's passes, and their weight.

    All processes make the same number of passes, since they gather the weights together; one that has too few rows takes
    its pass with weight 0.
    """
    setup = current()
    own = torch.arange(setup.rank, count, setup.ranks)
    most = -(-count // setup.ranks)
    for rows in own.tensor_split(-(-most // (setup.micro_batch or most))):
        yield (rows, 1.0) if len(rows) else (torch.zeros(1, dtype=torch.long), 0.0)
