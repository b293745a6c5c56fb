"""Classifiers: the fresh head is trained along with the adapter, seeded by the trial, put back, and saved."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, ViTConfig, ViTForImageClassification

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.code_version import code_version
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.fingerprint import fingerprint
from adapterlab.models.loading import load
from adapterlab.surgery.model.new_heads import new_head_parameters
from adapterlab.tasks.files import FileData, task_of
from tests.lab.tiny import save_model
from tests.surgery.test_attach import bits, same_bits
from tests.tasks.user_files import labelled, write


def trial_of(model, data: FileData, method: str = "lora", **changes) -> Trial:
    task = task_of(data)
    settings = {
        "model": str(model),
        "model_hash": fingerprint(str(model)),
        "task": task.name,
        "data": task.fingerprint(),
        "adapter": json.dumps(adapterlab.adapter(method).settings()),
        "targets": "all-linear",
        "lr": 1e-2,
        "seed": 1,
        "steps": 40,
        "batch": 8,
        "length": 32,
        "parts": tuple(task.parts),
        "windows": 64,
        "curve_every": 0,
        "code": code_version(method, task),
        "rows": True,
    }
    return Trial(**(settings | changes))


def runner_of(*data: FileData) -> Runner:
    return Runner(WorkerConfig(data=data))


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> FileData:
    return FileData("films", write(tmp_path_factory.mktemp("labels") / "films.jsonl", labelled(120)))


@pytest.fixture(scope="module")
def trial(films, tmp_path_factory) -> Trial:
    return trial_of(save_model(tmp_path_factory.mktemp("model")), films)


@pytest.fixture(scope="module")
def runner(films) -> Runner:
    return runner_of(films)


@pytest.fixture
def model(trial, runner):
    return runner.context(trial).model


def test_a_classifier_learns_and_the_model_is_left_as_it_was(trial, films, runner, model):
    before = bits(model)
    assert list(new_head_parameters(model)) == ["score.weight"]
    outcome = runner.run(trial)
    assert same_bits(bits(model), before)
    frozen = runner.run(trial_of(trial.model, films, steps=1, lr=1e-9))
    assert outcome.scores["test"][1] > 0.9 > frozen.scores["test"][1]
    assert outcome.rows.keys() == outcome.scores.keys()
    for part, losses in outcome.rows.items():
        assert sum(losses) / len(losses) == pytest.approx(outcome.scores[part][0], rel=1e-6)
    assert outcome.parameters == adapterlab.parameter_count(model, adapterlab.adapter("lora"))


def test_the_head_starts_where_the_seed_says(model):
    starts = []
    for seed in (1, 1, 2):
        handle = adapterlab.attach(model, adapterlab.adapter("lora"), seed=seed)
        starts.append(model.score.weight.detach().clone())
        assert model.score.weight.requires_grad
        assert "score" not in handle.sites
        handle.detach()
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_full_fine_tuning_trains_the_head_once(model):
    count = len(list(model.parameters()))
    handle = adapterlab.attach(model, adapterlab.adapter("full_ft"))
    assert len(handle.parameters()) == count
    handle.detach()


def test_the_head_is_saved_with_the_adapter(trial, runner, tmp_path):
    kept = {}

    def keep(handle):
        handle.save(tmp_path)
        kept["logits"] = handle.model(**inputs).logits

    ids = torch.randint(1, 200, (3, 9), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    runner.run(trial, keep)
    fresh, _ = load(trial.model, runner.task("films").head)
    adapterlab.load(fresh, tmp_path)
    torch.testing.assert_close(fresh(**inputs).logits, kept["logits"])
    # One that was loaded without adapterlab says nothing of a fresh head; the folder does.
    plain = AutoModelForSequenceClassification.from_pretrained(trial.model, num_labels=2, pad_token_id=0)
    adapterlab.load(plain.eval(), tmp_path)
    torch.testing.assert_close(plain(**inputs).logits, kept["logits"])
    other = AutoModelForSequenceClassification.from_pretrained(trial.model, num_labels=3, pad_token_id=0)
    with pytest.raises(AdapterlabError, match="as many labels as it was trained on"):
        adapterlab.load(other, tmp_path)


def test_a_vision_transformer_learns(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from transformers import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
        num_labels=5,
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "model")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "model")
    for name, shade in (("dark", 20), ("light", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            image.new("RGB", (10, 10), (shade + i, shade, shade)).save(tmp_path / "data" / name / f"{i}.png")
    shades = FileData("shades", str(tmp_path / "data"))
    outcome = runner_of(shades).run(trial_of(tmp_path / "model", shades))
    assert outcome.status == "ok"
    assert outcome.scores["test"][1] == 1.0


@pytest.mark.parametrize("adapter", ["lora", "dora", "full_ft"])
def test_recomputed_activations_give_the_same_training(trial, films, runner, adapter):
    this = trial_of(trial.model, films, adapter, steps=3)
    plain = runner.run(this)
    again = runner.with_settings(checkpointing=True).run(this)
    for part, scores in plain.scores.items():
        assert again.scores[part] == pytest.approx(scores, rel=1e-5)
