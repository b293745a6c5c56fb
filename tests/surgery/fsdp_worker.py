"""One training step of methods on a model that `fully_shard` divides over two processes, and files written from there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing import spawn

from adapterlab.errors import AdapterlabError
from adapterlab.surgery import Handle, attach
from tests.adapters.methods import noisy, small
from tests.conftest import tiny_llama

TOKENS = torch.randint(0, 64, (4, 10), generator=torch.Generator().manual_seed(3))
FLOAT32, MIXED, BF16 = "float32", "mixed", "bf16"
"""Precisions: of all; bf16 by FSDP2's policy on float32 parameters; a model in bf16."""
Case = tuple[str, str]
"""Name of a method, and precision."""


def attached(name: str, precision: str) -> tuple[nn.Module, Handle]:
    """The method on a tiny model, moved off its start."""
    model = tiny_llama()
    if precision == BF16:
        model.to(torch.bfloat16)
    handle = attach(model, small(name))
    noisy(handle.parameters(), 0.02)
    return model, handle


def divided(model: nn.Module, precision: str = FLOAT32) -> nn.Module:
    """The model, divided block by block as in the documentation of FSDP2."""
    mesh = init_device_mesh("cpu", (2,))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if precision == MIXED else MixedPrecisionPolicy()
    for block in model.model.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


def loss(model: nn.Module, rows: Sequence[int]) -> Tensor:
    """A scalar that is the mean over the rows."""
    logits = model(TOKENS[rows]).logits.float()
    weights = torch.linspace(-1, 1, TOKENS.numel() * 64).cos().view(*TOKENS.shape, 64)
    return 10 * (logits * weights[rows]).mean()


def step(model: nn.Module, handle: Handle, rows: Sequence[int]) -> None:
    """A step of training as the documentation of a `Handle` has it."""
    optimizer = torch.optim.SGD(handle.parameter_groups(lr=0.05))
    total, penalty = loss(model, rows), handle.regularizer()
    (total if penalty is None else total + penalty).backward()
    optimizer.step()
    handle.after_step(0)


def whole(parameter: Tensor) -> Tensor:
    return (parameter.full_tensor() if isinstance(parameter, DTensor) else parameter).detach().float()


@torch.no_grad()
def losses(model: nn.Module) -> Tensor:
    return torch.stack([loss(model, [row]) for row in range(len(TOKENS))])


def trained(rank: int, case: Case, folder: Path) -> dict[str, Any]:
    """Loss of each row before and after a step, and the parameters, on one process (first) and on two."""
    name, precision = case
    found = []
    for processes in (1, 2):
        model, handle = attached(name, precision)
        if processes == 2:
            divided(model, precision)
        before = losses(model)
        step(model, handle, range(4) if processes == 1 else [2 * rank, 2 * rank + 1])
        found.append({"before": before, "after": losses(model), "parameters": list(map(whole, handle.parameters()))})
    handle.save(folder)
    model.save_pretrained(folder / "pretrained")
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        model.save_pretrained(folder / "from_state_dict", state_dict=full)
    refused: dict[str, str] = {}
    attempts: dict[str, Callable[[], object]] = {
        "peft": lambda: handle.export_peft(folder / "peft"),
        "merged": lambda: handle.save_merged(folder / "merged"),
        "merge": handle.merge,
        "detach": handle.detach,
        "attach": lambda: attach(model, small("lora"), name="second"),
    }
    for what, attempt in attempts.items():
        try:
            attempt()
        except AdapterlabError as error:
            refused[what] = str(error)
    again = losses(model)
    deltas = {path: delta.float() for path, delta in handle.deltas().items()}
    with handle.disabled():
        base = losses(model)
    return {"one": found[0], "two": found[1], "refused": refused, "again": again, "base": base, "deltas": deltas}


def _work(rank: int, cases: Sequence[Case], folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    for case in cases:
        result: object
        try:
            result = trained(rank, case, folder / "-".join(case))
        except Exception as error:  # told to the test of the case, since the others go on
            result = f"{type(error).__name__}: {error}"
        torch.save(result, folder / f"{'-'.join(case)}-{rank}.pt")
    dist.destroy_process_group()


def train_all(cases: Sequence[Case], folder: Path) -> dict[Case, list[Any]]:
    """Return the measurements of each process, by case."""
    spawn(_work, (list(cases), folder), nprocs=2)
    return {case: [torch.load(folder / f"{'-'.join(case)}-{rank}.pt") for rank in (0, 1)] for case in cases}
