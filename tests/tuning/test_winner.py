"""The winner is kept in a form that others load, whatever the method."""

from __future__ import annotations

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
    winner = keep_winner(contest, tmp_path)
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
    first = keep_winner(contest, tmp_path)
    monkeypatch.setattr(Runner, "run", lambda *_: pytest.fail("trained again"))
    assert keep_winner(contest, tmp_path) == first
