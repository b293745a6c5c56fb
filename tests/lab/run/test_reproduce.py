"""`adapterlab reproduce`: published trials that are trained again have the published losses, and others are noticed."""

from __future__ import annotations

import random
import re
import shutil
import statistics
from dataclasses import replace

import pandas as pd
import pytest
from typer.testing import CliRunner

from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.ledger.trial_file import read_trial_file, write_trial_file
from adapterlab.lab.run import reproduce
from adapterlab.lab.run.reproduce import Published, duration_of, seed_noise
from tests.lab.in_process import use
from tests.lab.tiny import save_study


def call(*arguments: object):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["reproduce", *(str(a) for a in arguments)])


def output(*arguments: object, status: int = 0) -> str:
    result = call(*arguments)
    assert result.exit_code == status, result.output + str(result.exception)
    return result.output


def mistake(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, AdapterlabError), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A study that ran and was exported."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        use(patch)
        patch.chdir(place)
        result = CliRunner().invoke(app, ["run", str(save_study(place, steps=6))])
        assert result.exit_code == 0, result.output
        assert CliRunner().invoke(app, ["export", "runs/tiny"]).exit_code == 0
    return place


@pytest.fixture
def published(place, tmp_path):
    (tmp_path / "results/tiny").mkdir(parents=True)
    shutil.copy(place / "runs/tiny/trials.parquet", tmp_path / "results/tiny")
    return tmp_path / "results"


def changed(place, published, change) -> None:
    """Publish the ledger with other outcomes."""
    folder = published.parent / "changed"
    shutil.copytree(place / "runs/tiny", folder)
    ledger = Ledger(folder / "ledger.sqlite")
    for record in list(ledger.records()):
        ledger.remove([record.id])
        ledger.merge([replace(record, finished=change(record.finished))])
    ids = [record.id for record in ledger.records()]
    write_trial_file(pd.DataFrame({"trial": ids}, dtype="string"), ledger, published / "tiny/trials.parquet")


def moved(by):
    def change(finished):
        scores = {part: (loss + by(finished), accuracy) for part, (loss, accuracy) in finished.outcome.scores.items()}
        return finished._replace(outcome=replace(finished.outcome, scores=scores))

    return change


def test_trials_come_out_as_they_were_published(published):
    said = output(published, "--share", 1)
    count = len(read_trial_file(published / "tiny/trials.parquet").records)
    assert f"{count} of {count} trials drawn" in said
    assert f"{count} of {count} outcomes agree, {count} of them to the last bit." in said
    assert "code has changed" not in said
    frame = pd.read_parquet(published / "tiny/trials.parquet").set_index("trial")
    for name, trial in re.findall(r"^  (\S+) on prose.*?\(([0-9a-f]{16})\)", said, re.MULTILINE):
        assert frame["contestant"][trial] == name


def test_a_loss_that_moved_is_beyond_rounding(place, published):
    found = read_trial_file(published / "tiny/trials.parquet")
    noise = seed_noise(found.records)["prose"]
    changed(place, published, moved(lambda finished: 0.2 * noise if finished.trial.method == "lora" else 0.0))
    said = output(published, "--share", 1, status=1)
    lora = sum(record.finished.trial.method == "lora" for record in found.records)
    assert said.count("beyond rounding") == lora
    assert f"difference {-0.2 * noise:+.2g}" in said
    assert f"{len(found.records) - lora} of {len(found.records)} outcomes agree" in said


def test_a_loss_that_moved_by_rounding_agrees(place, published):
    noise = seed_noise(read_trial_file(published / "tiny/trials.parquet").records)["prose"]
    changed(place, published, moved(lambda finished: 0.05 * noise))
    said = output(published, "--least", 4)
    assert said.count("within rounding") == 4
    assert "0 of them to the last bit" in said


def test_a_study_without_two_seeds_is_held_to_a_usual_noise(place, published):
    """Before its searches have ended, no setting has two seeds."""
    frame, first = pd.read_parquet(place / "runs/tiny/trials.parquet"), place / "runs/tiny"
    search = set(frame.loc[frame["round"] != "report", "trial"])
    folder = published.parent / "begun"
    shutil.copytree(first, folder)
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.remove([record.id for record in ledger.records() if record.id not in search])
    for record in list(ledger.records()):
        ledger.remove([record.id])
        ledger.merge([replace(record, finished=moved(lambda _: 0.01)(record.finished))])
    ids = [record.id for record in ledger.records()]
    write_trial_file(pd.DataFrame({"trial": ids}, dtype="string"), ledger, published / "tiny/trials.parquet")
    assert seed_noise(list(ledger.records())) == {}
    said = output(published, "--share", 0, "--least", 2, status=1)
    assert said.count("beyond rounding") == 2
    assert "at most 0.00026" in said


def test_another_status_is_beyond_rounding(place, published):
    changed(place, published, lambda f: f._replace(outcome=replace(f.outcome, status="diverged", scores={})))
    said = output(published, "--least", 1, "--share", 0, status=1)
    assert "ok, published as diverged" in said


def test_the_seed_noise_is_the_spread_over_the_seeds_pooled(place):
    records = read_trial_file(place / "runs/tiny/trials.parquet").records
    losses: dict[str, list[float]] = {}
    for record in records:
        trial = record.finished.trial
        if trial.rows and trial.method != "frozen":
            losses.setdefault(trial.method, []).append(record.finished.outcome.scores["test"][0])
    assert {len(of) for of in losses.values()} == {2}
    pooled = statistics.fmean(statistics.variance(of) for of in losses.values()) ** 0.5
    assert seed_noise(records) == {"prose": pytest.approx(pooled)}


def test_a_draw_can_be_made_again(published):
    def ids(seed):
        return re.findall(r"\(([0-9a-f]{16})\)", output(published, "--seed", seed))

    assert len(ids(5)) == 3
    assert ids(5) == ids(5)
    assert len({tuple(ids(seed)) for seed in (5, 6, 7)}) > 1


def test_a_trial_whose_code_has_changed_is_named_as_such(published, monkeypatch):
    monkeypatch.setattr(reproduce, "current_code", lambda trial: "0" * 12)
    assert output(published).count("to the last bit; its code has changed since it was published") == 3


def test_the_time_bounds_what_is_drawn(published):
    found = read_trial_file(published / "tiny/trials.parquet")
    times = {record.id: 1.0 + 10 * (i % 2) for i, record in enumerate(found.records)}
    slow = replace(
        found,
        records=tuple(replace(r, finished=r.finished._replace(wall_seconds=times[r.id])) for r in found.records),
    )
    opened = Published.open(slow)
    sample = opened.draw(1.0, 3, 9.0, random.Random(0))
    assert {duration_of(record) for record in sample.drawn} == {1.0}
    assert len(sample.drawn) == 9
    assert sample.too_long == len(found.records) // 2
    few = opened.draw(0.0, 3, 0.5, random.Random(0))  # nothing fits
    assert few.drawn == ()


def test_a_failed_trial_is_not_drawn(place, published):
    changed(place, published, lambda f: f._replace(outcome=replace(f.outcome, status="failed", scores={})))
    assert "no trial was trained" in mistake(published)


def test_a_study_whose_model_is_not_here_is_said_so(place, published):
    model = place / "model"
    model.rename(place / "away")
    try:
        result = call(published)
    finally:
        (place / "away").rename(model)
    assert "not trained here: " in result.output
    assert "no trial was trained: give more --minutes, or fetch the models" in str(result.exception)


def test_another_model_or_other_data_are_noticed(place, published):
    changed(place, published, lambda f: f._replace(trial=replace(f.trial, model_hash="0" * 16)))
    assert "the model" in call(published).output
    shutil.rmtree(published.parent / "changed")
    changed(place, published, lambda f: f._replace(trial=replace(f.trial, data="other")))
    assert "the data of task prose here are not those" in call(published).output


def test_a_folder_without_published_trials_is_named(tmp_path):
    assert f"{tmp_path} has no trials.parquet: give a folder of published results" in mistake(tmp_path)
