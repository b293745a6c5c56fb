"""A Ray cluster of two workers: the ledger that it makes, workers that are killed, and what cannot be had."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.executors.ray import RayCluster
from adapterlab.lab.run.locate import LEDGER
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.run.time_limit import TimeLimit
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.tasks.parts import FileData
from tests.lab.tiny import save_study, what_counts

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

FRAGILE = """
import os, signal, time
from pathlib import Path
from adapterlab.adapters.rank.lora import LoRA

MARK = Path({mark!r})

class Fragile(LoRA):
    name = "fragile_there"
    def init(self, weight, context):
        if not weight.is_meta and MARK.exists():
            MARK.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().init(weight, context)

class Sleeper(LoRA):
    name = "sleeper_there"
    def init(self, weight, context):
        if not weight.is_meta:
            time.sleep(1000)
        return super().init(weight, context)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a cluster of two cores answers."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One with a contestant from a file, which kills its worker once if `mark` is there."""
    folder = tmp_path_factory.mktemp("study")
    path = save_study(folder, steps=9)
    (folder / "fragile.py").write_text(FRAGILE.format(mark=str(folder / "mark")))
    path.write_text(
        path.read_text().replace("ia3", "fragile_there").replace("budget", 'adapter_files = ["fragile.py"]\nbudget')
    )
    return load_study(path, trust=True), folder / "mark"


def test_a_cluster_makes_the_ledger_of_this_machine_though_a_worker_is_killed(address, study, tmp_path):
    plan, mark = study
    undisturbed, clustered = Ledger(tmp_path / "undisturbed.sqlite"), Ledger(tmp_path / "clustered.sqlite")
    run_study(prepare(plan.limited(workers=2)), undisturbed)
    mark.touch()
    seen = []
    contests = run_study(
        prepare(plan.limited(cluster=address)), clustered, watch=lambda progress: seen.append(len(clustered))
    )
    assert not mark.exists(), "no worker was killed"
    assert all(contest.finished for contest in contests)
    assert what_counts(clustered) == what_counts(undisturbed)
    assert seen == sorted(set(seen) | {0}), "the trials came all at once"


@pytest.mark.soak
def test_what_hangs_what_a_user_brings_and_what_a_user_mistakes(address, study, monkeypatch, tmp_path):
    monkeypatch.setattr("adapterlab.lab.run.executors.base.MAX_LOSSES", 2)
    plan, _ = study
    good = prepare(plan).contests()[-1].trial(1e-2, 1, 3, reported=True)
    hangs = dataclasses.replace(good, adapter=json.dumps({"name": "sleeper_there"}))
    (tmp_path / "own").mkdir()
    lines = [
        json.dumps({"text": f"number {i} is one of many numbers that are here to be read " * 4}) for i in range(60)
    ]
    (tmp_path / "own" / "train.jsonl").write_text("\n".join(lines))
    own = dataclasses.replace(good, task="own", parts=("validation",), curve_every=0)
    setup = WorkerConfig(plan.adapter_files, data=(FileData("own", str(tmp_path / "own" / "train.jsonl")),))
    cluster = RayCluster(address, setup, {}, ShortForSleepers())
    (tmp_path / "own").rename(tmp_path / "elsewhere")
    try:
        cluster.submit([hangs, good, own])
        found = {f.trial: f for f in cluster}
        cluster.submit([dataclasses.replace(good, task="proze")])
        with pytest.raises(AdapterlabError, match="did you mean prose"):
            list(cluster)
    finally:
        cluster.close()
    assert found[good].outcome.status == found[own].outcome.status == "ok"
    assert found[hangs].outcome.status == "failed"
    assert found[hangs].attempts == 2
    assert "time limit" in found[hangs].outcome.note


class ShortForSleepers(TimeLimit):
    def of(self, trial):
        return 1.5 if "sleeper" in trial.adapter else super().of(trial)


@pytest.mark.soak
@pytest.mark.parametrize("what", [{"gcs_server", "raylet"}, {"gcs_server"}], ids=["the node", "its server"])
def test_a_lost_head_ends_the_run_with_one_line_and_loses_nothing(what, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        path = save_study(tmp_path, steps=9)
        out, others = tmp_path / "out", Ledger(tmp_path / "undisturbed.sqlite")
        command = [sys.executable, "-m", "adapterlab", "run", str(path), "--out", str(out)]
        call = subprocess.Popen([*command, "--cluster", cluster.address], text=True, stderr=subprocess.PIPE)
        end = time.monotonic() + 180
        while time.monotonic() < end and not ((out / LEDGER).is_file() and len(Ledger(out / LEDGER)) > 2):
            time.sleep(0.1)
        for kind, processes in cluster.head_node.all_processes.items():
            for each in processes if kind in what else []:
                os.kill(each.process.pid, signal.SIGKILL)
        kept = len(Ledger(out / LEDGER))
        _, said = call.communicate(timeout=120)
    finally:
        cluster.shutdown()
    assert call.returncode == 2, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("adapterlab: ")]
    assert lines == said.splitlines()[-1:]
    assert "is lost" in lines[0]
    ledger = Ledger(out / LEDGER)
    assert len(ledger) >= kept > 2
    assert not [outcome for outcome in what_counts(ledger).values() if "worker" in str(outcome)]
    plan = load_study(path)
    run_study(prepare(plan.limited(workers=2)), ledger)
    run_study(prepare(plan.limited(workers=2)), others)
    assert what_counts(ledger) == what_counts(others)


def test_a_cluster_that_is_not_there_is_named():
    with pytest.raises(AdapterlabError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*ray start --head"):
        RayCluster("127.0.0.1:1", WorkerConfig(), {}, TimeLimit())


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AdapterlabError, match=r"pip install 'adapterlab\[cluster\]'"):
        RayCluster("auto", WorkerConfig(), {}, TimeLimit())
