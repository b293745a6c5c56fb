"""Long studies under random kills end with the ledger of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.executors import MAX_LOSSES
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.study.load import load_study
from tests.lab.processes import command_of, descendants, start_run
from tests.lab.tiny import save_study, what_counts

pytestmark = pytest.mark.soak
MORE = "".join(f'\n[[contestants]]\nadapter = "{name}"\n' for name in ("dora", "hra", "oft", "vera", "pissa"))
DRIVERS = 6
"""How often the driver is killed before it is left alone."""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    return save_study(tmp_path_factory.mktemp("study"), steps=150, more=MORE)


@pytest.fixture(scope="module")
def undisturbed(study_file, tmp_path_factory) -> Ledger:
    ledger = Ledger(tmp_path_factory.mktemp("undisturbed") / "ledger.sqlite")
    run_study(prepare(load_study(study_file).limited(workers=2)), ledger)
    return ledger


def disturb(
    study_file: Path, out: Path, workers: Callable[[int], list[int]], seed: int, *options: str
) -> tuple[int, int]:
    """Run the study; kill workers and drivers at random. Gives how many of each were killed.

    No driver loses as many workers as would make a failure of a trial.
    """
    dice, killed_workers = random.Random(seed), 0
    for life in range(DRIVERS + 1):
        process = start_run(study_file, out, *options)
        try:
            ends, losses = time.monotonic() + (dice.uniform(8, 40) if life < DRIVERS else 3600), 0
            while process.poll() is None and time.monotonic() < ends:
                time.sleep(dice.uniform(0.2, 2.0))
                if losses < MAX_LOSSES - 1 and dice.random() < 0.3 and (pids := workers(process.pid)):
                    with suppress(ProcessLookupError):
                        os.kill(dice.choice(pids), signal.SIGKILL)
                        losses += 1
            killed_workers += losses
            if process.poll() is not None:
                output, _ = process.communicate()
                assert process.returncode == 0, output
                return life, killed_workers
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    raise AssertionError("the study never ended")


def local_workers(driver: int) -> list[int]:
    """Those below the process that they are forked from."""
    children = [pid for pid in descendants(driver) if "forkserver" in command_of(pid)]
    return [pid for parent in children for pid in descendants(parent)]


def test_random_kills_on_this_machine(study_file, undisturbed, tmp_path):
    drivers, workers = disturb(study_file, tmp_path, local_workers, 1, "--workers", "2")
    print(f"{drivers} drivers and {workers} workers were killed")
    assert drivers + workers > 0
    assert what_counts(Ledger(tmp_path / "ledger.sqlite")) == what_counts(undisturbed)


def test_random_kills_on_a_cluster(study_file, undisturbed, tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})

    def ray_workers(_: int) -> list[int]:
        return [pid for pid in descendants(os.getpid()) if command_of(pid).startswith("ray::_perform")]

    try:
        drivers, workers = disturb(study_file, tmp_path, ray_workers, 2, "--cluster", cluster.address)
    finally:
        cluster.shutdown()
    print(f"{drivers} drivers and {workers} workers were killed")
    assert drivers + workers > 0
    assert what_counts(Ledger(tmp_path / "ledger.sqlite")) == what_counts(undisturbed)
