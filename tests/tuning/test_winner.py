"""The winner is kept in a form that others load, whatever the method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import adapterlab
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Data, Limits, Reporting, Study, Training
from adapterlab.lab.trial.runner import Runner
from adapterlab.models.loading import load_causal
from adapterlab.tuning.winner import how_to_load, keep_winner
from tests.adapters.methods import small
from tests.lab.tiny import save_model
from tests.tasks.user_files import completions, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("winner")
    save_model(folder / "model")
    write(folder / "sums.jsonl", completions(40))
    return folder


def contest_of(folder: Path, name: str):
    """A contest that one run has ended."""
    data = Data(name="kept", train=str(folder / "sums.jsonl"))
    study = Study(
        name="kept",
        model=str(folder / "model"),
        tasks=("kept",),
        data=(data,),
        reference=name,
        contestants=(Contestant(adapter=name),),
        training=Training(steps=3, batch=4, length=32, precision="float32"),
        report=Reporting(windows=4),
        limits=Limits(device="cpu"),
    )
    resolved = resolve(study)
    contest = next(
        c for c in make_contests(resolved, {name: small(name), "full_ft": small("full_ft")}) if c.contestant == name
    )
    trial = contest.trial(0.01, 1, 3, reported=True)
    contest.reported[1] = trial, Runner(resolved.worker_config()).run(trial)
    return contest


@pytest.mark.filterwarnings("ignore:Unsupported layer type")  # PEFT, of the norms that it tunes
@pytest.mark.parametrize("name", ["lora", "svft", "full_ft", "ln_tuning", "reft"])
def test_the_snippet_gives_the_trained_model(folder, name, tmp_path):
    contest = contest_of(folder, name)
    winner = keep_winner(contest, tmp_path, tmp_path / "none")
    assert (winner.peft, winner.merged) == {
        "svft": (False, True),
        "full_ft": (False, True),
        "reft": (False, False),
    }.get(name, (True, False))
    names: dict = {}
    exec(how_to_load(winner, str(folder / "model"), contest.resolved.tasks["kept"], tmp_path), names)
    ids = torch.arange(3, 15)[None]
    base = load_causal(str(folder / "model")).model
    before = base(ids).logits
    handle = adapterlab.load(base, tmp_path / "adapterlab")
    ours = base(ids).logits
    handle.detach()
    torch.testing.assert_close(names["model"].eval()(ids).logits, ours, rtol=1e-4, atol=1e-5)
    assert (ours - before).abs().max() > 1e-4
    assert not (tmp_path / "peft").exists() or winner.peft


def test_what_is_there_is_not_trained_again(folder, tmp_path, monkeypatch):
    contest = contest_of(folder, "lora")
    first = keep_winner(contest, tmp_path, tmp_path / "none")
    monkeypatch.setattr(Runner, "run", lambda *_: pytest.fail("trained again"))
    assert keep_winner(contest, tmp_path, tmp_path / "none") == first


def test_an_adapter_that_the_study_kept_is_not_trained_again(folder, tmp_path, monkeypatch):
    contest = contest_of(folder, "lora")
    trial, outcome = contest.reported[1]
    config = replace(contest.resolved.worker_config(), save_to=str(tmp_path / "adapters"))
    kept = Runner(config).run(trial)
    assert kept.scores == outcome.scores
    trained = keep_winner(contest, tmp_path / "trained", tmp_path / "none")
    monkeypatch.setattr(Runner, "run", lambda *_: pytest.fail("trained again"))
    assert keep_winner(contest, tmp_path / "kept", tmp_path / "adapters") == trained
    for name in ("adapterlab/adapter.safetensors", "peft/adapter_model.safetensors"):
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "trained" / name).read_bytes()


def test_only_the_first_reported_run_is_kept_and_never_full_fine_tuning(folder, tmp_path):
    for name in ("lora", "full_ft"):
        contest = contest_of(folder, name)
        trial, _ = contest.reported[1]
        runner = Runner(replace(contest.resolved.worker_config(), save_to=str(tmp_path / name)))
        for other in (trial, replace(trial, seed=2), replace(trial, rows=False, seed=101)):
            runner.run(other)
        found = [path.name for path in (tmp_path / name).glob("*")]
        assert found == ([trial.id] if name == "lora" else [])
