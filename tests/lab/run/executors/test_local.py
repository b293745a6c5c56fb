"""Workers of this machine: one that is killed, one that hangs, one that a trial takes along."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapterlab.adapters import load_file
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.executors import MAX_LOSSES, LocalPool, crews
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.time_limit import LEAST, SLACK, TimeLimit
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Limits
from adapterlab.lab.trial.spec import Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from tests.lab.runner import RUNNER
from tests.lab.tiny import save_study

BAD_ADAPTERS = """
import os, signal, time
from pathlib import Path
from adapterlab.adapters.rank.lora import LoRA

MARK = Path(__file__).with_name("mark")

class Sleeper(LoRA):
    name = "sleeper"
    def init(self, weight, context):
        if not weight.is_meta:
            time.sleep(1000)
        return super().init(weight, context)

class Killer(LoRA):
    name = "killer"
    def init(self, weight, context):
        os._exit(9)

class Fragile(LoRA):
    name = "fragile"
    def init(self, weight, context):
        if not weight.is_meta and MARK.exists():
            MARK.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().init(weight, context)

class Slow(LoRA):
    name = "slow"
    def init(self, weight, context):
        if not weight.is_meta and context.site.endswith("0.self_attn.q_proj"):
            MARK.with_name("slow").touch()
            time.sleep(2)
        return super().init(weight, context)

class Clumsy(LoRA):
    name = "clumsy"
    def init(self, weight, context):
        raise ValueError("it stumbled")
"""


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> list[Trial]:
    """Two good ones of a few steps."""
    contest = prepare(load_study(save_study(tmp_path_factory.mktemp("study")))).contests()[-1]
    return [contest.trial(1e-2, seed, 6, reported=True) for seed in (1, 2)]


@pytest.fixture(scope="module")
def bad_setup(tmp_path_factory) -> WorkerConfig:
    path = tmp_path_factory.mktemp("bad") / "bad.py"
    path.write_text(BAD_ADAPTERS)
    return WorkerConfig(adapter_files=(str(path),))


class ShortForSleepers(TimeLimit):
    def of(self, trial: Trial) -> float:
        return 1.5 if "sleeper" in trial.adapter else super().of(trial)


def bad(trial: Trial, name: str) -> Trial:
    return dataclasses.replace(trial, adapter=json.dumps({"name": name}))


@pytest.fixture
def pool():
    """Makes pools, and closes them."""
    made = []

    def make(*args, **options) -> LocalPool:
        made.append(LocalPool(args[0], {}, *args[1:], **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_worker_that_is_killed_costs_only_a_second_try(pool, trials, bad_setup):
    pool, one = pool([(bad_setup,)]), bad(trials[0], "fragile")
    mark = Path(bad_setup.adapter_files[0]).with_name("mark")
    mark.touch()
    pool.submit([one, trials[0]])
    found = {f.trial: f for f in pool}
    assert not mark.exists(), "no worker was killed"
    assert found[trials[0]].outcome.scores == RUNNER.run(trials[0]).scores
    load_file(Path(bad_setup.adapter_files[0]))
    assert found[one].outcome.scores == RUNNER.run(one).scores
    assert {t: f.attempts for t, f in found.items()} == {one: 2, trials[0]: 1}
    assert all(f.wall_seconds > 0 for f in found.values())


def test_a_worker_that_is_killed_before_it_is_ready_costs_the_trial_nothing(pool, trials):
    pool = pool([(WorkerConfig(),)])
    pool.submit(trials[:1])
    os.kill(pool.worker_pids()[0], signal.SIGKILL)
    ((trial, outcome, _, _, attempts),) = list(pool)
    assert (trial, outcome.status, attempts) == (trials[0], "ok", 1)


def test_workers_that_never_get_ready_are_an_error_and_no_failure_of_a_trial(pool, trials, tmp_path):
    (tmp_path / "exits.py").write_text("import os; os._exit(3)")
    pool = pool([(WorkerConfig(adapter_files=(str(tmp_path / "exits.py"),)),)])
    pool.submit(trials)
    with pytest.raises(AdapterlabError, match="ended before they were ready"):
        list(pool)


def test_what_hangs_or_kills_is_a_recorded_failure_and_the_rest_runs_on(pool, trials, bad_setup):
    pool = pool([(bad_setup,), (bad_setup,)], ShortForSleepers())
    hangs, kills = bad(trials[0], "sleeper"), bad(trials[0], "killer")
    pool.submit([hangs, kills])
    pool.submit(trials)
    found = {f.trial: f for f in pool}
    assert set(found) == {hangs, kills, *trials}
    for trial, why in ((hangs, "past its time limit"), (kills, "its worker was lost")):
        assert found[trial].outcome.status == "failed"
        assert why in found[trial].outcome.note
        assert found[trial].attempts == MAX_LOSSES
    assert all(found[trial].outcome.status == "ok" for trial in trials)


def test_a_contestant_that_raises_fails_alone_with_the_last_line_of_its_traceback(pool, trials, bad_setup):
    pool = pool([(bad_setup,)])
    pool.submit([bad(trials[0], "clumsy"), trials[0]])
    found = {f.trial: f for f in pool}
    outcome = found[bad(trials[0], "clumsy")].outcome
    assert outcome.status == "failed"
    line = BAD_ADAPTERS.splitlines().index('        raise ValueError("it stumbled")') + 1
    assert outcome.note == f"ValueError: it stumbled (bad.py, line {line}, in init)"
    assert found[trials[0]].outcome.scores == RUNNER.run(trials[0]).scores


class ShortForTheSlow(TimeLimit):
    def of(self, trial: Trial) -> float:
        return 6.0 if "slow" in trial.adapter else super().of(trial)


def when_it_runs(setup: WorkerConfig, then: Callable[[], None]) -> threading.Thread:
    """Call a function once the slow trial sleeps."""
    mark = Path(setup.adapter_files[0]).with_name("slow")
    mark.unlink(missing_ok=True)

    def wait() -> None:
        while not mark.exists():
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_time_that_a_worker_is_suspended_for_does_not_count(pool, trials, bad_setup):
    pool = pool([(bad_setup,)], ShortForTheSlow())

    def suspend() -> None:
        (pid,) = pool.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(7)
        os.kill(pid, signal.SIGCONT)

    when_it_runs(bad_setup, suspend)
    pool.submit([trials[0], bad(trials[0], "slow")])
    assert [(f.outcome.status, f.attempts) for f in pool] == [("ok", 1)] * 2


def test_time_that_the_machine_is_suspended_for_does_not_count(pool, trials, bad_setup, monkeypatch):
    skipped, now = [0.0], time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: now() + skipped[0])
    pool = pool([(bad_setup,)], ShortForTheSlow())
    monkeypatch.setattr("adapterlab.lab.trial.suspension.MOST", 0.5)
    when_it_runs(bad_setup, lambda: skipped.__setitem__(0, 3600.0))
    pool.submit([trials[0], bad(trials[0], "slow")])
    assert [(f.outcome.status, f.attempts) for f in pool] == [("ok", 1)] * 2
    assert skipped == [3600.0]


def test_a_users_mistake_stays_one(pool, trials):
    pool = pool([(WorkerConfig(),)])
    pool.submit([dataclasses.replace(trials[0], task="proze")])
    with pytest.raises(AdapterlabError, match="did you mean prose"):
        list(pool)


def test_closing_leaves_no_process(pool, trials):
    pool = pool([(WorkerConfig(),)])
    pool.submit(trials)
    pids = pool.worker_pids()
    pool.close()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_the_time_limit_follows_what_was_measured(trials):
    short, long = trials[0], dataclasses.replace(trials[0], steps=600)
    limit = TimeLimit()
    assert limit.of(short) >= 3600
    limit.learn(short, 0.5)
    assert limit.of(short) == LEAST
    limit.learn(short, 6.0)
    assert limit.of(long) == SLACK * 600
    assert TimeLimit(5.0).of(long) == 5.0


def test_the_cores_are_divided_among_the_workers(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    setup = WorkerConfig(adapter_files=("a.py",))
    assert [len(crew) for crew in crews(Limits(), setup)] == [1] * 8
    pairs = crews(Limits(threads=2, shard=2), setup)
    assert [len(crew) for crew in pairs] == [2, 2]
    assert all(member == dataclasses.replace(setup, threads=2) for crew in pairs for member in crew)
    assert len(crews(Limits(workers=3), setup)) == 3


def test_every_gpu_has_one_worker(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [crew[0].device for crew in crews(Limits(), WorkerConfig())] == [f"cuda:{i}" for i in range(4)]
    assert {crew[0].threads for crew in crews(Limits(), WorkerConfig())} == {4}
    assert [[m.device for m in crew] for crew in crews(Limits(shard=2), WorkerConfig())] == [
        ["cuda:0", "cuda:1"],
        ["cuda:2", "cuda:3"],
    ]
    assert crews(Limits(device="cpu", workers=1), WorkerConfig())[0][0].device == "cpu"
    with pytest.raises(AdapterlabError, match=r"limits\.shard is 8, but this machine has 4 GPUs"):
        crews(Limits(shard=8), WorkerConfig())
