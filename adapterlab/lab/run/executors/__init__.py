"""Executors: processes of this machine, each trial in one or sharded over several, or a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.capacity import find_device
from adapterlab.lab.run.executors.base import MAX_LOSSES, Executor
from adapterlab.lab.run.executors.local import LocalPool
from adapterlab.lab.run.resolve import ResolvedStudy
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.trial.worker_config import WorkerConfig


def executor_for(limits: Limits, resolved: ResolvedStudy, limit: TimeLimit, save_to: str = "") -> Executor:
    """Start the executor that a study's limits ask for.

    Args:
        limits: Device, number of workers, threads, cluster and so on.
        resolved: The study.
        limit: Time limit of each trial.
        save_to: Folder for trained adapters of reported runs: see `WorkerConfig`.

    Returns:
        The executor; close it after use.

    Raises:
        AdapterlabError: If a device or a cluster is not there.
    """
    config, tasks = replace(resolved.worker_config(), save_to=save_to), resolved.tasks
    if limits.cluster is not None:
        from adapterlab.lab.run.executors.ray import RayCluster

        config = replace(config, threads=limits.threads)
        return RayCluster(limits.cluster, config, tasks, limit, limits.lanes, limits.device)
    return LocalPool(crews(limits, config), tasks, limit, limits.lanes)


def crews(limits: Limits, config: WorkerConfig) -> list[Sequence[WorkerConfig]]:
    """Return the settings of each worker's processes on this machine, with the cores divided among them.

    Args:
        limits: Device, number of workers, threads, and devices that one model is sharded over.
        config: Settings that all processes share.

    Returns:
        For each worker, its processes: one, or as many as `limits.shard`.

    Raises:
        AdapterlabError: If there are fewer devices than a model is sharded over, or no GPU although one is required.
    """
    cores = os.cpu_count() or 1
    devices = _devices(limits.device)
    if devices:
        count = len(devices) // limits.shard
        if not count:
            raise AdapterlabError(
                f"limits.shard is {limits.shard}, but this machine has {len(devices)} GPUs: give at most that"
            )
        threads = max(1, cores // len(devices))
        places = [replace(config, device=device, threads=threads) for device in devices]
    else:
        count = limits.workers or max(1, cores // (limits.threads * limits.shard))
        places = [replace(config, device="cpu", threads=limits.threads)] * (count * limits.shard)
    count = min(count, limits.workers or count)
    return [tuple(places[i * limits.shard : (i + 1) * limits.shard]) for i in range(count)]


def _devices(kind: str) -> list[str]:
    """Return the accelerators to use; none for the CPU."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if kind != "cpu" else []
    if kind == "cuda" and not gpus:
        raise AdapterlabError("limits.device is cuda, but torch finds no GPU: give auto or cpu")
    if not gpus and kind == "auto" and find_device() == "mps":
        return ["mps"]
    return gpus


__all__ = ["MAX_LOSSES", "Executor", "LocalPool", "crews", "executor_for"]
