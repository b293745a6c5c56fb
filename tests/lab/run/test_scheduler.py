"""A whole study on a tiny model: what is run, what survives a kill, what a rerun does."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterlab.cli import app
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.surgery import parameter_count
from tests.lab.processes import command_of, descendants, start_run, wait_for_trials
from tests.lab.runner import RUNNER
from tests.lab.tiny import save_study, what_counts


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    return save_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def undisturbed(study_file, tmp_path_factory):
    """The study run once, in one go."""
    ledger = Ledger(tmp_path_factory.mktemp("undisturbed") / "ledger.sqlite")
    seen, in_hand = [], []

    def watch(progress):
        seen.append(progress)
        in_hand.append(set(ledger.running()) - {trial.id for trial, _, _ in ledger})

    contests = run_study(prepare(load_study(study_file).limited(workers=2)), ledger, watch=watch)
    return contests, ledger, seen, in_hand


def test_a_study_ends_with_every_contest_reported(undisturbed):
    contests, ledger, seen, _ = undisturbed
    assert all(c.finished for c in contests)
    results = Results.of(contests)
    for name in ("lora", "ia3"):
        for metric in ("in_domain", "out_of_domain", "forgetting", "steps_to_reference"):
            assert set(Effects.of(results).values(name, metric)) == {("prose", 1), ("prose", 2)}
    assert seen[-1].done == seen[-1].expected
    assert seen[-1].trials == len(ledger)


def test_it_says_which_trials_the_workers_are_at(undisturbed):
    _, ledger, _, in_hand = undisturbed
    assert set.union(*in_hand) == {trial.id for trial, _, _ in ledger}
    # Both workers are busy but for the last trials, and those whose outcome decides what comes next.
    assert [len(trials) for trials in in_hand][-2:] == [1, 0]
    assert sorted(map(len, in_hand), reverse=True)[: len(ledger) * 3 // 4] == [2] * (len(ledger) * 3 // 4)
    assert not ledger.path.with_suffix(".running").exists()


def test_the_frozen_model_is_scored_once_for_each_task_and_not_with_every_trial(undisturbed):
    _, ledger, *_ = undisturbed
    frozen = [trial.task for trial, _, _ in ledger if trial.method == FROZEN]
    assert frozen == ["prose"]


def test_contestants_are_sized_to_the_budget(study_file, undisturbed):
    from adapterlab.models.loading import load_causal

    study = load_study(study_file)
    model = load_causal(study.model).model
    lora = next(c.adapter for c in prepare(study).contests() if c.contestant == "lora")
    assert parameter_count(model, lora) <= study.budget
    bigger = type(lora)(rank=lora.rank + 1)
    assert parameter_count(model, bigger) > study.budget


def test_a_finished_study_runs_nothing_more(study_file, undisturbed):
    _, ledger, *_ = undisturbed
    before, started = what_counts(ledger), time.monotonic()
    contests = run_study(prepare(load_study(study_file)), ledger)
    assert all(c.finished for c in contests)
    assert what_counts(ledger) == before
    assert time.monotonic() - started < 20


def test_a_trial_in_this_process_gives_the_ledgers_numbers(undisturbed):
    contests, *_ = undisturbed
    for trial, outcome in contests[-1].reported.values():
        assert RUNNER.run(trial).scores == outcome.scores


def test_a_rate_that_makes_the_loss_nan_is_a_result(undisturbed):
    import dataclasses

    contests, *_ = undisturbed
    trial, _ = contests[-1].reported[1]
    outcome = RUNNER.run(dataclasses.replace(trial, lr=1e30))
    assert outcome.status == "diverged"
    assert outcome.note
    assert math.isinf(outcome.validation)


@pytest.fixture
def start():
    """Begin `adapterlab run` in a process of its own; whatever is left of it at the end is killed."""
    processes = []

    def begin(study_file: Path, out: Path) -> subprocess.Popen:
        processes.append(start_run(study_file, out, "--workers", "2"))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_kill_in_the_middle_and_a_rerun_give_the_same_ledger(start, study_file, undisturbed, tmp_path):
    process = start(study_file, tmp_path)
    wait_for_trials(tmp_path, 3, process)
    workers = descendants(process.pid)
    assert len(workers) > 2, "there is no worker to outlive it"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = len(Ledger(tmp_path / "ledger.sqlite"))
    assert 3 <= kept < len(undisturbed[1])
    again = CliRunner().invoke(app, ["run", str(study_file), "--out", str(tmp_path), "--workers", "2"])
    assert again.exit_code == 0, again.output + str(again.exception)
    assert what_counts(Ledger(tmp_path / "ledger.sqlite")) == what_counts(undisturbed[1])
    assert not any("multiprocessing" in command_of(pid) for pid in workers), "a worker outlived it"
    for name in ("report.html", "verdict.json"):
        assert (tmp_path / name).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.soak)])
def test_a_signal_keeps_what_is_done_and_says_so(number, start, study_file, tmp_path):
    process = start(study_file, tmp_path)
    wait_for_trials(tmp_path, 2, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "run the same command to resume" in " ".join(output.split())
    assert "Traceback" not in output
    assert len(Ledger(tmp_path / "ledger.sqlite")) >= 2


def test_the_verdict_names_the_trials_behind_each_number(study_file, undisturbed, tmp_path):
    from adapterlab import argmap
    from adapterlab.report.verdict_json import write_verdict
    from adapterlab.verdict import analyse

    contests, ledger, *_ = undisturbed
    the_map = argmap.parse(
        "[T]: thesis\n  + <A>\n\n<A>\n\n(1) [C]: ia3 beats lora {credence: 0.5, reason: x, "
        "test: {better: ia3, than: lora, in: in_domain, on: [prose]}}\n----\n"
        "(2) [D]: so {inference: 0.8, reason: y}\n  +> [T]\n"
    )
    analysis = analyse(prepare(load_study(study_file)), contests, ledger, the_map)
    write_verdict(analysis, tmp_path / "verdict.json")
    (claim,) = json.loads((tmp_path / "verdict.json").read_text())["claims"]
    by_id = {t.id: o for t, o, _ in ledger}
    for pair in claim["pairs"]:
        ia3, lora = (by_id[name].scores["test"][0] for name in pair["trials"])
        assert pair["difference"] == lora - ia3
    assert claim["effect"]["mean"] == sum(p["difference"] for p in claim["pairs"]) / 2
