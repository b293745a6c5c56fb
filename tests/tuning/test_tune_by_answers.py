"""`tune --metric` in this process: the advice, the ledger, the table of trials, and a contestant as a model of lm-eval."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.harness import find_target
from adapterlab.lab.analysis.trial_table import read_csv, write_table
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.trust import UntrustedCodeError
from tests.lab.answered import rows
from tests.lab.in_process import use
from tests.lab.tiny import save_model
from tests.tasks.user_files import labelled, texts, write

OPTIONS = {"contestants": "lora,ia3", "time": "10m", "seeds": 2, "budget": "3%", "workers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("user")
    save_model(place / "model")
    write(place / "mine.jsonl", rows(40))
    write(place / "other.jsonl", rows(10, "can it be so"))
    return place


@pytest.fixture(scope="module")
def advice(folder):
    with pytest.MonkeyPatch.context() as patch:
        use(patch)
        patch.setattr("adapterlab.tuning.planning.MIN_STEPS", 6)
        return adapterlab.tune(
            folder / "model",
            folder / "mine.jsonl",
            ood=folder / "other.jsonl",
            out=folder / "out",
            metric="exact_match",
            max_new_tokens=6,
            **OPTIONS,
        )


def test_the_advice_is_by_the_answers_and_says_so(advice):
    table = advice.analysis.main.scoreboard.answers[0]
    assert table.title == "exact match"
    assert table.decides
    assert f"Its answers have exact match {table.row(advice.contestant).value.mean:.3f}" in advice.text
    assert "Learning rates are chosen by validation loss; the order is by exact match" in advice.text
    assert "What the models say: exact match" in (advice.folder / "report.html").read_text()


def test_only_reported_trials_and_the_frozen_model_answer(advice):
    ledger = Ledger(advice.folder / "ledger.sqlite")
    trials = {trial: outcome for trial, outcome, _ in ledger}
    asked = {trial for trial in trials if trial.metric}
    assert {(trial.method, trial.seed) for trial in asked} == {
        (FROZEN, 0),
        *((name, seed) for name in ("lora", "ia3", "full_ft") for seed in (1, 2)),
    }
    assert all(bool(outcome.answers) == (trial in asked) for trial, outcome in trials.items())
    assert all(trial.max_new_tokens == 6 for trial in asked)


def test_the_table_of_trials_has_the_answers(advice, tmp_path):
    frame = adapterlab.trials(advice.folder)
    reported = frame[frame["round"].isin(["report"])]
    for _, row in reported.iterrows():
        values = json.loads(row["answers"])
        assert row["test_answers"] == pytest.approx(sum(values["test"]) / len(values["test"]))
        assert row["ood_answers"] == pytest.approx(sum(values["ood"]) / len(values["ood"]))
    assert frame[frame["round"] == "first"]["test_answers"].isna().all()
    write_table(frame, tmp_path / "trials.csv", "csv")
    pd.testing.assert_frame_equal(
        read_csv(tmp_path / "trials.csv")[["metric", "test_answers"]], frame[["metric", "test_answers"]]
    )


def test_two_contestants_are_compared_by_their_answers(advice):
    found = adapterlab.compare("lora", "ia3", study=advice.folder, metric="answers_in_domain")
    table = advice.analysis.main.scoreboard.answers[0]
    assert found.effect.mean == pytest.approx(table.row("lora").value.mean - table.row("ia3").value.mean)
    assert found.metric.unit == "exact match"


def test_any_contestant_can_be_evaluated_elsewhere(advice):
    target = find_target(str(advice.folder), contestant="ia3")
    assert json.loads((target.adapter / "adapter.json").read_text())["adapter"]["name"] == "ia3"
    assert target.model.endswith("model")
    assert find_target(str(advice.folder)).adapter == advice.folder / "winner" / "adapterlab"
    with pytest.raises(AdapterlabError, match=r"has no reported run of oft: its contestants are lora, ia3, full_ft"):
        find_target(str(advice.folder), contestant="oft")


def tune(folder, train: str = "mine.jsonl", **options):
    return adapterlab.tune(folder / "model", folder / train, out=folder / "bad", **OPTIONS | options)


def test_what_cannot_be_scored_is_one_line(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder / "texts.jsonl", texts(20))
    write(folder / "films.jsonl", labelled(20))
    (folder / "mine.py").write_text("def points(prediction, reference, row): return 1\n")
    for options, problem in (
        ({"metric": "bleu"}, "metric 'bleu' is not known: give one of exact_match"),
        ({"max_new_tokens": 3}, "--max-new-tokens needs a --metric"),
        ({"metric": "python:other.score"}, "other.py cannot be read"),
        ({"metric": "python:mine.score"}, "mine.py does not define score: its functions are points"),
        (
            {"metric": "f1", "train": "texts.jsonl"},
            "running text has no answers that could be scored by F1 of the words",
        ),
        ({"metric": "f1", "train": "films.jsonl"}, "the accuracy is reported anyway: leave the metric out"),
        ({"metric": "f1", "max_new_tokens": 9999}, "max_new_tokens is 9999, but the model's context has 2048 tokens"),
        ({"metric": "f1", "max_new_tokens": 2047}, "have more than the 1 tokens that the model's context has beside"),
    ):
        with pytest.raises(AdapterlabError, match=problem) as error:
            tune(folder, **options)
        assert "\n" not in str(error.value)


def test_a_scorer_is_run_only_if_it_is_trusted_and_its_failure_is_found_before_anything_is_trained(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "broken.py").write_text("def score(prediction, reference, row): return row['no']\n")
    with pytest.raises(UntrustedCodeError, match=r"broken.py, which is not trusted"):
        tune(folder, metric="python:broken.score")
    with pytest.raises(AdapterlabError, match=r"score in .*broken.py on .*mine.jsonl:\d+ raised KeyError: 'no'"):
        tune(folder, metric="python:broken.score", trust=True)
    assert len(Ledger(folder / "bad" / "ledger.sqlite")) == 0


def test_the_command_has_the_options():
    text = CliRunner().invoke(app, ["tune", "--help"]).stdout
    assert all(option in text for option in ("--metric", "--max-new-tokens", "--trust"))
