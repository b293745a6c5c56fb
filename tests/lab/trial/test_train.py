"""One trial in this process: pieces of a batch, the path of strengths, shares of the data, what is left behind."""

from __future__ import annotations

import dataclasses
import gc
import json

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial import train
from adapterlab.lab.trial.peak_memory import peak_memory
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.score import NoAdapter, pairs, score_parts
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.models.loading import load_causal
from adapterlab.tasks import task
from tests.lab.runner import RUNNER
from tests.lab.tiny import save_study


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Trial:
    contests = prepare(load_study(save_study(tmp_path_factory.mktemp("study")))).contests()
    lora = next(c for c in contests if c.contestant == "lora")
    return lora.trial(1e-2, 1, 12, reported=True)


def test_a_batch_in_pieces_gives_the_gradient_of_the_whole(trial, monkeypatch):
    loaded = load_causal(trial.model)
    loaded.model.requires_grad_(True)
    examples = task("prose").examples("train", loaded.tokenizer, 32, 6)
    batch = examples.rows(slice(0, 6))
    batch["scored"][0, 5:] = False  # pieces with different numbers of terms
    found = []
    vocabulary = loaded.model.config.vocab_size
    for micro, logits in ((None, 2**25), (4, 2**25), (1, 2**25), (None, 2 * 31 * vocabulary)):
        monkeypatch.setattr("adapterlab.tasks.scoring.LOGITS_AT_ONCE", logits)
        loaded.model.zero_grad()
        loss = train.backward(task("prose"), loaded.model, batch, micro, NoAdapter())
        found.append((loss, loaded.model.model.layers[0].mlp.up_proj.weight.grad.clone()))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-4, atol=1e-7)


def test_the_path_leads_from_the_frozen_model_through_the_trained_adapter(trial):
    outcome = RUNNER.run(dataclasses.replace(trial, path=(0.0, 0.5, 1.0, 1.25)))
    frozen = RUNNER.run(frozen_of(trial))
    path = dict(outcome.path)
    assert list(path) == [0.0, 0.5, 1.0, 1.25]
    assert path[0.0]["test"][0] == pytest.approx(frozen.scores["test"][0], rel=1e-6)
    assert path[1.0] == outcome.scores
    assert path[0.5] != path[1.25] != outcome.scores


def test_a_path_on_fewer_rows_has_its_ends_on_the_same_rows(trial):
    few = dataclasses.replace(trial, path=(0.5, 1.25), path_windows=3)
    outcome, frozen = (
        RUNNER.run(few),
        RUNNER.run(dataclasses.replace(frozen_of(trial), path=(0.5, 1.25), path_windows=3)),
    )
    assert [strength for strength, _ in outcome.path] == [0.5, 1.25, 1.0]
    assert [strength for strength, _ in frozen.path] == [0.0]
    alone = dataclasses.replace(trial, windows=3)
    for strength, scored in ((1.0, outcome), (0.0, frozen)):
        scores = RUNNER.run(alone if strength else dataclasses.replace(frozen_of(trial), windows=3)).scores
        assert dict(scored.path)[strength] == scores
    # These rows are the first of all rows, so their losses are those of the rows, but for the scale of their bytes.
    first = [sum(scored.rows["test"][:3]) for scored in (outcome, frozen)]
    ends = [dict(scored.path)[strength]["test"][0] for scored, strength in ((outcome, 1.0), (frozen, 0.0))]
    assert first[0] / first[1] == pytest.approx(ends[0] / ends[1], rel=1e-6)
    whole = RUNNER.run(dataclasses.replace(trial, path=(0.5, 1.25)))
    assert (outcome.scores, outcome.rows) == (whole.scores, whole.rows)


def test_scores_during_training_are_those_of_the_path_s_rows(trial):
    """A learning rate of almost nothing leaves the frozen model, whose scores are known."""
    few = dataclasses.replace(trial, path=(0.5,), path_windows=3, lr=1e-12, curve_every=2)
    outcome = RUNNER.run(few)
    frozen = RUNNER.run(dataclasses.replace(frozen_of(trial), path=(0.5,), path_windows=3))
    assert [step for step, _ in outcome.along] == [step for step, _ in outcome.curve]
    for _, scores in outcome.along:
        assert list(scores) == ["test", "ood", "base"]
        for part, (loss, _) in scores.items():
            assert loss == pytest.approx(dict(frozen.path)[0.0][part][0], rel=1e-5)
    assert RUNNER.run(dataclasses.replace(trial, curve_every=2)).along == ()


def frozen_of(trial: Trial) -> Trial:
    return dataclasses.replace(trial, adapter=f'{{"name": "{FROZEN}"}}', path=(), steps=0, curve_every=0)


def test_the_time_of_scoring_is_recorded(trial):
    for one in (trial, frozen_of(trial)):
        assert RUNNER.run(one).scoring_seconds > 0


def test_a_reported_trial_and_the_frozen_model_have_the_loss_of_every_row(trial):
    for reported in (trial, frozen_of(trial)):
        outcome = RUNNER.run(reported)
        assert list(outcome.rows) == list(outcome.scores) == ["validation", "test", "ood", "base"]
        for part, losses in outcome.rows.items():
            assert len(losses) == trial.windows
            assert sum(losses) / len(losses) == pytest.approx(outcome.scores[part][0], rel=1e-6)


def test_a_trial_of_the_search_has_no_rows(trial):
    outcome = RUNNER.run(dataclasses.replace(trial, parts=("validation",), rows=False))
    assert outcome.status == "ok"
    assert outcome.rows == {}


def test_an_outcome_of_an_old_ledger_has_no_rows(trial):
    data = RUNNER.run(trial).to_json()
    del data["rows"]
    assert Outcome.from_json(data).rows == {}
    assert Outcome.from_json(data).scores == RUNNER.run(trial).scores


def test_the_path_is_not_part_of_the_training(trial):
    assert RUNNER.run(dataclasses.replace(trial, path=(0.5,))).scores == RUNNER.run(trial).scores


def test_what_is_kept_stands_at_full_strength_after_its_path(trial):
    kept = []
    RUNNER.run(dataclasses.replace(trial, path=(0.5, 1.25)), on_trained=lambda handle: kept.append(handle.strength))
    assert kept == [1.0]


@pytest.mark.parametrize(
    ("name", "setting", "on", "off"), [("lora", "dropout", 0.5, 0.0), ("poly", "relaxed", True, False)]
)
def test_what_is_random_acts_in_training_and_not_in_scoring(trial, name, setting, on, off):
    def of(value):
        return dataclasses.replace(trial, adapter=json.dumps(adapter(name, rank=4, **{setting: value}).settings()))

    noisy, scored = of(on), []
    context = RUNNER.context(noisy)
    outcome = RUNNER.run(noisy, on_trained=lambda handle: scored.append(score_parts(context, handle, trial.parts)))
    for part, (loss, _) in pairs(scored[0]).items():
        assert loss == pytest.approx(outcome.scores[part][0], rel=1e-5)  # these are scored with merged weights
    assert RUNNER.run(of(off)).scores != outcome.scores
    assert not any(module.training for module in context.model.modules())


def test_a_share_of_the_data_is_its_first_part(trial):
    whole = RUNNER.context(trial).training_data.inputs["input_ids"]
    tenth = RUNNER.context(dataclasses.replace(trial, share=0.1)).training_data.inputs["input_ids"]
    assert len(tenth) == round(len(whole) / 10)
    assert torch.equal(tenth, whole[: len(tenth)])
    assert RUNNER.run(dataclasses.replace(trial, share=0.1)).scores != RUNNER.run(trial).scores


def test_an_outcome_survives_its_way_through_json(trial):
    outcome = RUNNER.run(dataclasses.replace(trial, path=(0.5,)))
    assert type(outcome).from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    again = Trial.from_json(json.loads(json.dumps(trial.to_json())))
    assert again == trial
    assert again.id == trial.id


def test_peak_memory_sees_what_was_held_and_let_go():
    gc.collect()  # what other tests left behind would hide it by going meanwhile
    with peak_memory(torch.device("cpu")) as peak:
        block = torch.ones(256 << 20, dtype=torch.uint8)
        del block
        held = peak()
    assert 128 << 20 < held < 400 << 20


def test_peak_memory_sees_what_takes_the_place_of_what_was_let_go():
    def hold() -> None:
        blocks = [torch.ones(64 << 10, dtype=torch.uint8) for _ in range(1024)]  # small enough to be kept when let go
        blocks.clear()

    hold()
    with peak_memory(torch.device("cpu")) as peak:
        hold()
        held = peak()
    assert 48 << 20 < held < 80 << 20


def test_a_task_of_ones_own_is_one_file(tmp_path, trial):
    (tmp_path / "shout.py").write_text(
        "from adapterlab.tasks.text import Completion, CompletionTask\n\n\n"
        "class Shout(CompletionTask):\n"
        "    name = 'shout'\n    title = 'Shouting'\n    explanation = 'Upper case.'\n\n"
        "    def completions(self, part):\n"
        "        return [Completion(f'{part} {i}: ', f'WORD {i}') for i in range(20)]\n\n"
        "    def fingerprint(self):\n        return 'shout 1'\n"
    )
    text = (tmp_path / "s.toml", trial.model)
    text[0].write_text(
        f'name = "s"\nmodel = "{text[1]}"\ntasks = ["shout"]\ntask_files = ["shout.py"]\n'
        '[training]\nprecision = "float32"\n[[contestants]]\nadapter = "lora"\n'
    )
    study = load_study(text[0], trust=True)
    resolved = resolve(study)
    (contest,) = [
        c for c in make_contests(resolved, {c.name: c.build() for c in study.entrants}) if c.contestant == "lora"
    ]
    runner = Runner(resolved.worker_config())
    outcome = runner.run(contest.trial(1e-2, 1, 20, reported=True))
    assert outcome.status == "ok"
    assert outcome.scores["test"][0] < runner.run(contest.trial(1e-6, 1, 1, reported=True)).scores["test"][0]
