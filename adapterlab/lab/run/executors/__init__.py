"""Where trials run: processes of this machine, one trial sharded over several of them, or a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.capacity import find_device
from adapterlab.lab.run.executors.base import LOSSES, Executor
from adapterlab.lab.run.executors.local import LocalPool
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.trial.worker_config import WorkerConfig


def executor_for(limits: Limits, setup: WorkerConfig, limit: TimeLimit) -> Executor:
    """The executor that a study's limits ask for; raises `AdapterlabError` for what cannot be had."""
    if limits.cluster is not None:
        from adapterlab.lab.run.executors.ray import RayCluster

        return RayCluster(limits.cluster, replace(setup, threads=limits.threads), limit, limits.lanes, limits.device)
    return LocalPool(crews(limits, setup), limit, limits.lanes)


def crews(limits: Limits, setup: WorkerConfig) -> list[Sequence[WorkerConfig]]:
    """The processes of each worker on this machine: one process for a device, the cores divided among them."""
    cores = os.cpu_count() or 1
    devices = _devices(limits.device)
    if devices:
        count = len(devices) // limits.shard
        if not count:
            raise AdapterlabError(f"the model cannot be sharded over {limits.shard} devices: here are {len(devices)}")
        threads = max(1, cores // len(devices))
        places = [replace(setup, device=device, threads=threads) for device in devices]
    else:
        count = limits.workers or max(1, cores // (limits.threads * limits.shard))
        places = [replace(setup, device="cpu", threads=limits.threads)] * (count * limits.shard)
    count = min(count, limits.workers or count)
    return [tuple(places[i * limits.shard : (i + 1) * limits.shard]) for i in range(count)]


def _devices(kind: str) -> list[str]:
    """The accelerators to use, none for the CPU."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if kind != "cpu" else []
    if kind == "cuda" and not found:
        raise AdapterlabError("limits.device is cuda, and torch sees no such device: give auto or cpu")
    if not found and kind == "auto" and find_device() == "mps":
        return ["mps"]
    return found


__all__ = ["LOSSES", "Executor", "LocalPool", "crews", "executor_for"]
