"""Trials whose task has a metric: the answers after training are scored, in reported runs alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace

import pytest
import torch

from adapterlab.errors import ScorerError
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.executors.worker import perform
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.models.loading import load_causal
from adapterlab.tasks.base import Part
from adapterlab.tasks.generation import answers
from tests.lab.answered import WORD, save_answered

RATE = 0.01


def contests_of(folder, metric: str = "exact_match") -> tuple[Contest, Contest, Runner]:
    prepared = prepare(load_study(save_answered(folder, metric), trust=True))
    frozen, lora = (next(c for c in prepared.contests() if c.contestant == name) for name in (FROZEN, "lora"))
    return frozen, lora, Runner(prepared.resolved.worker_config())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return contests_of(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def trial(study) -> Trial:
    return study[1].trial(RATE, 1, 12, reported=True)


@pytest.fixture(scope="module")
def outcome(study, trial) -> Outcome:
    return study[2].run(trial)


def test_the_metric_is_that_of_the_answers_given_one_by_one(study, trial, outcome):
    """The model is asked with the adapter attached, through transformers, without a cache."""
    found: dict[str, list[float]] = {"test": [], "ood": []}
    runner = study[2]

    def ask(handle) -> None:
        tokenizer = load_causal(trial.model).tokenizer
        for part in found:
            for question in runner.task("mine").questions(Part(part), tokenizer, 6):
                ids = tokenizer(question.row["prompt"], return_tensors="pt", add_special_tokens=False)["input_ids"]
                with torch.no_grad():
                    new = handle.model.generate(ids, max_new_tokens=8, do_sample=False, use_cache=False, pad_token_id=0)
                said = tokenizer.decode(new[0, ids.shape[1] :], skip_special_tokens=True)
                assert question.reference == WORD
                found[part].append(float(said.strip().lower() == WORD))

    runner.run(trial, on_trained=ask)
    assert {part: list(values) for part, values in outcome.answers.items()} == found
    assert [len(values) for values in found.values()] == [6, 6]
    assert sum(outcome.answers["test"]) > 0  # it has learned something that can be heard


def test_the_frozen_model_answers_too(study):
    frozen, _, runner = study
    found = runner.run(frozen.frozen_trial())
    assert found.answers == {"test": (0.0,) * 6, "ood": (0.0,) * 6}
    assert found.generating_seconds > 0
    assert found.scoring_seconds > 0


def test_losses_are_those_of_a_trial_without_a_metric(study, trial, outcome):
    plain = study[2].run(replace(trial, metric=""))
    assert (plain.scores, plain.rows, plain.curve) == (outcome.scores, outcome.rows, outcome.curve)
    assert (plain.answers, plain.generating_seconds) == ({}, 0.0)


def test_only_reported_runs_on_all_data_answer(study):
    _, lora, _ = study
    assert lora.trial(RATE, 1, 12, reported=True).metric == "exact_match"
    for options in ({"reported": False}, {"reported": False, "all_parts": True}, {"reported": True, "share": 0.1}):
        assert lora.trial(RATE, 1, 12, **options).metric == ""


def test_the_id_of_a_trial_without_a_metric_is_what_it_was(trial):
    old = {k: v for k, v in asdict(replace(trial, metric="")).items() if k != "model"}
    for key in ("metric", "scorer", "max_new_tokens", "metric_rows", "geometry"):
        del old[key]
    digest = hashlib.blake2b(json.dumps(old, sort_keys=True).encode(), digest_size=8).hexdigest()
    assert replace(trial, metric="").id == digest
    others = [replace(trial, metric="f1"), replace(trial, scorer="a"), replace(trial, max_new_tokens=9)]
    others.append(replace(trial, metric_rows=5))
    assert len({trial.id, replace(trial, metric="").id, *(other.id for other in others)}) == 6


def test_answers_come_back_from_a_ledger_and_older_ones_have_none(trial, outcome):
    stored = json.loads(json.dumps(outcome.to_json()))
    assert Outcome.from_json(stored) == outcome
    assert Trial.from_json(json.loads(json.dumps(trial.to_json()))) == trial
    for key in ("answers", "generating_seconds"):
        del stored[key]
    assert Outcome.from_json(stored).answers == {}


@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented")
def test_trials_trained_in_one_pass_answer_as_they_do_alone(study, trial, monkeypatch):
    said: list[list[str]] = []

    def remember(*args):
        said.append(answers(*args))
        return said[-1]

    monkeypatch.setattr("adapterlab.lab.trial.score.answers", remember)
    lanes = [trial, replace(trial, lr=1e-5)]
    study[2].run_batched(lanes)
    together = said[:]
    for each in lanes:
        study[2].run(each)
    assert said[4:] == together
    assert together[0] != together[2]


SCORER = "def score(prediction, reference, row):\n    return {}\n"


def test_a_scorer_gets_whole_rows_and_its_code_decides_the_id(tmp_path):
    (tmp_path / "mine.py").write_text(SCORER.format("int(row['number']) + len(reference) / 10"))
    frozen, lora, runner = contests_of(tmp_path, "python:mine.score")
    trial = frozen.frozen_trial()
    assert trial.metric == "python:mine.score"
    values = runner.run(trial).answers["ood"]
    assert sorted(values) == sorted(set(values))
    assert all(0.1 <= value < 10 and round(value % 1, 6) == 0.1 for value in values)
    (tmp_path / "mine.py").write_text("# a comment\n" + SCORER.format("int(row['number']) + len(reference) / 10"))
    assert contests_of(tmp_path, "python:mine.score")[0].frozen_trial().id == trial.id
    (tmp_path / "mine.py").write_text(SCORER.format("1.0"))
    other = contests_of(tmp_path, "python:mine.score")[0].frozen_trial()
    assert other.id != trial.id
    search = lora.trial(RATE, 1, 12, reported=False)
    assert search.id == contests_of(tmp_path, "python:mine.score")[1].trial(RATE, 1, 12, reported=False).id


def test_a_failing_scorer_is_not_the_contestants_failure(tmp_path):
    (tmp_path / "mine.py").write_text(SCORER.format("1 / 0"))
    frozen, _, runner = contests_of(tmp_path, "python:mine.score")
    with pytest.raises(
        ScorerError, match=r"the scorer score in .*mine.py on .*rows.jsonl:\d+ raised ZeroDivisionError"
    ):
        perform(runner, (frozen.frozen_trial(),))


def test_a_scorer_that_changes_while_a_study_runs_is_noticed(tmp_path):
    (tmp_path / "mine.py").write_text(SCORER.format("1.0"))
    resolved = resolve(load_study(save_answered(tmp_path, "python:mine.score"), trust=True))
    runner = Runner(resolved.worker_config())
    (tmp_path / "mine.py").write_text(SCORER.format("2.0"))
    with pytest.raises(Exception, match=r"mine.py has changed since this study read it"):
        runner.run(next(iter(prepare(resolved.study).contests())).frozen_trial())
