"""A model spread over two processes learns what it learns in one."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
from typing import Any

import pytest
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.multiprocessing import spawn

from adapterlab.lab.run.executors import LocalPool
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.sharded import divide, join
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.loading import load_causal
from adapterlab.surgery import attach
from adapterlab.tasks import task
from tests.adapters.methods import small
from tests.lab.runner import RUNNER
from tests.lab.tiny import save_study

NAMES = ["lora", "dora", "hra", "oft", "ia3", "vera", "adalora", "bitfit", "prefix", "full_ft", FROZEN]
SLOW = {"ia3", "vera", "adalora"}
"""What needs a higher learning rate to learn anything in a few steps."""
CLOSE = 1e-4


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """By name, a trial of each; the batch of 3 cannot be halved."""
    contest = prepare(load_study(save_study(tmp_path_factory.mktemp("study")))).contests()[-1]
    trial = dataclasses.replace(contest.trial(1e-2, 1, 8, reported=True), batch=3, curve_every=2)
    made = {
        name: dataclasses.replace(
            trial,
            adapter=json.dumps(small(name).settings() if name != FROZEN else {"name": FROZEN}),
            targets="all-linear",
            lr=0.2 if name in SLOW else trial.lr,
            **({"steps": 0, "curve_every": 0} if name == FROZEN else {}),
        )
        for name in NAMES
    }
    rounded = {f"{name} in bf16": dataclasses.replace(made[name], precision="bf16") for name in ("lora", "full_ft")}
    return made | rounded | {"one_row": dataclasses.replace(made["lora"], batch=1)}


@pytest.fixture(scope="module")
def sharded(trials):
    """By trial, what two processes make of it; with pieces of one row, so that passes must be kept in step."""
    pool = LocalPool([(WorkerConfig(micro_batch=1), WorkerConfig(micro_batch=1))], {"prose": task("prose")})
    try:
        pool.submit(list(trials.values()))
        return {finished.trial: finished.outcome for finished in pool}
    finally:
        pool.close()


def held_by(rank: int, model: str, rendezvous: str, found: Any) -> None:
    """Put into `found` how many numbers of the model, and of the adapter, process `rank` of two holds."""
    config = WorkerConfig(rank=rank, ranks=2, rendezvous=rendezvous)
    join(config)
    loaded = load_causal(model).model
    handle = attach(loaded, small("lora"))
    divide(loaded, handle, config)
    adapter = {id(parameter) for parameter in handle.parameters()}
    counts = {True: 0, False: 0}
    for parameter in loaded.parameters():
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        counts[id(parameter) in adapter] += local.numel()
    found[rank] = counts[False], counts[True]
    dist.destroy_process_group()


def test_each_process_holds_half_of_the_model_and_all_of_the_adapter(trials, tmp_path):
    model = load_causal(trials["lora"].model).model
    whole = sum(parameter.numel() for parameter in model.parameters())
    handle = attach(model, small("lora"))
    adapter = handle.parameter_count
    handle.detach()
    with multiprocessing.Manager() as manager:
        held = manager.dict()
        spawn(held_by, (trials["lora"].model, str(tmp_path / "rendezvous"), held), nprocs=2)
        found = dict(held)
    assert sum(base for base, _ in found.values()) == whole
    assert all(base < 0.55 * whole for base, _ in found.values())
    assert [own for _, own in found.values()] == [adapter, adapter]


@pytest.mark.parametrize("name", ["lora in bf16", "full_ft in bf16"])
def test_two_processes_in_bf16_give_the_losses_of_one_up_to_rounding(name, trials, sharded):
    two, one = sharded[trials[name]], RUNNER.run(trials[name])
    assert two.status == one.status == "ok"
    for part, (loss, _) in one.scores.items():
        assert two.scores[part][0] == pytest.approx(loss, rel=5e-3)


@pytest.mark.parametrize("name", [*NAMES, "one_row"])
def test_two_processes_give_the_losses_of_one(name, trials, sharded):
    two, one = sharded[trials[name]], RUNNER.run(trials[name])
    assert two.status == one.status == "ok"
    assert two.parameters == one.parameters
    # AdaLoRA prunes by an order of importances, in which rounding swaps two that are nearly equal on some processors.
    close = 10 * CLOSE if name == "adalora" else CLOSE
    for part, (loss, _) in one.scores.items():
        assert math.isclose(two.scores[part][0], loss, abs_tol=close), part
        assert two.rows[part] == pytest.approx(one.rows[part], abs=10 * close), part
    assert [step for step, _ in two.curve] == [step for step, _ in one.curve]
    for (_, loss), (_, other) in zip(one.curve, two.curve, strict=True):
        assert math.isclose(loss, other, abs_tol=close)
    if name != FROZEN:
        start = RUNNER.run(trials[FROZEN]).validation
        assert abs(one.validation - start) > 10 * CLOSE, "nothing was learned, so nothing was compared"
