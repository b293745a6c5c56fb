"""Sharded trials: one trial on a model larger than a device, its base weights divided over processes (FSDP2).

Each process holds a share of every base weight and gathers a block's weights while the block runs. The adapter is small, so
every process holds all of it; only a method that trains about as much as the model holds has its parameters divided too.
Each process takes its share of every batch, so a step equals the step of one process with the whole batch, except for the
inputs that dropout drops. Every process must be able to hold the whole model once in main memory, where the adapter is
attached before the model is divided.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial import train
from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.precision import losses
from adapterlab.lab.trial.spec import Outcome
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.surgery import Handle
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.tasks.base import Control, Task


def join(config: WorkerConfig) -> None:
    """Join the process group of the processes that share the model.

    Args:
        config: Settings of this process, with its rank and the file of the rendezvous.

    >>> WorkerConfig(rank=1, ranks=2).ranks
    2
    """
    device = torch.device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, f"file://{config.rendezvous}", rank=config.rank, world_size=config.ranks)


def run(context: TrialContext) -> Outcome:
    """Run one trial together with the other processes; each process calls this with the same trial.

    Args:
        context: The resolved trial, with the whole model in main memory.

    Returns:
        The outcome, the same in every process.
    """
    whole = replace(context, model=copy.deepcopy(context.model))
    precision = context.trial.precision
    return train.run(whole, shard=lambda model, handle: divide(model, handle, context.config, precision))


def divide(model: nn.Module, handle: Handle | None, config: WorkerConfig, precision: str = "float32") -> train.Gradient:
    """Keep this process's share of the model's weights and free the rest.

    Args:
        model: The whole model.
        handle: Handle of the attached adapter, if there is one.
        config: Settings of this process.
        precision: Precision of the trial.

    Returns:
        The function that computes a step's gradient together with the other processes.
    """
    device, trained = torch.device(config.device), handle.parameters() if handle is not None else []
    whole = [] if handle is not None and _is_large(model, handle) else trained
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    mesh, undivided = init_device_mesh(device.type, (config.ranks,)), set(whole)
    for block in _blocks(model):
        fully_shard(block, mesh=mesh, ignored_params=undivided)
    fully_shard(model, mesh=mesh, ignored_params=undivided)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The loss is already divided by the terms of the whole batch.
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
    return _SharedGradient(whole, config, precision, config.micro_batch or 0)


def _is_large(model: nn.Module, handle: Handle) -> bool:
    """Return True if the method trains about as much as the model holds and only its forward pass reads the parameters."""
    own = set(handle.parameters())
    base = sum(p.numel() for p in model.parameters() if p not in own)
    method = type(handle.adapter)
    outside = method.regularizer is not Adapter.regularizer or method.after_step is not Adapter.after_step
    return 2 * handle.parameter_count > base and not outside


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose weights are gathered together; none where the model has no recognizable blocks."""
    try:
        return [block.module for block in Decoder(model).blocks]
    except AdapterlabError:
        return []


@dataclass(frozen=True)
class _SharedGradient:
    """Computes the gradient of a batch whose rows are divided over the processes."""

    whole: list[nn.Parameter]
    """Parameters that every process holds whole, and whose gradients are summed over the processes."""
    config: WorkerConfig
    precision: str
    size: int
    note: str = ""

    def __call__(self, task: Task, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> float:
        device, terms = torch.device(self.config.device), task.terms(batch)
        total = torch.zeros((), dtype=torch.float64)
        for rows, weight in self._passes(len(next(iter(batch.values())))):
            piece = {name: tensor[rows].to(device) for name, tensor in batch.items()}
            for loss in losses(task, model, piece, control, self.precision):
                own = loss * (weight / terms)
                torch.autograd.backward(own)
                total += own.item()
        total = total.to(device)
        dist.all_reduce(total)
        for parameter in self.whole:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
        return total.item()

    def _passes(self, count: int) -> Iterator[tuple[Tensor, float]]:
        """Yield the rows of each of this process's passes, and their weight.

        All processes make the same number of passes, since they gather the weights together; a process with too few rows
        makes its last pass with weight 0.
        """
        config = self.config
        own = torch.arange(config.rank, count, config.ranks)
        most = -(-count // config.ranks)
        for rows in own.tensor_split(-(-most // (config.micro_batch or most))):
            yield (rows, 1.0) if len(rows) else (torch.zeros(1, dtype=torch.long), 0.0)
