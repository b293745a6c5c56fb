"""The model card: written with every adapter folder, and never over another card."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.trainer.card import model_card
from tests.conftest import tiny_llama


def attached(name_or_path=""):
    model = tiny_llama()
    model.config._name_or_path = name_or_path
    return model, adapterlab.attach(model, adapterlab.adapter("lora", rank=3), targets=["q_proj", "v_proj"])


def test_the_card_names_method_settings_base_size_and_scores(trainer, tmp_path):
    model, handle = attached("some-lab/tiny-llama")
    callback = adapterlab.TrainerCallback(handle, scores={"accuracy": 0.84375})
    trainer(model, callbacks=[callback], save_strategy="steps", save_steps=6).train()
    card = ModelCard.load(tmp_path / "run/checkpoint-6/README.md")
    assert card.data.library_name == "adapterlab"
    assert card.data.base_model == "some-lab/tiny-llama"
    assert {"adapterlab", "lora"} <= set(card.data.tags)
    text = card.text
    assert "[Low-rank adaptation](https://arxiv.org/abs/2106.09685)" in text
    assert "| `rank` | `3` |" in text
    assert "| adapted | targets = ['q_proj', 'v_proj'] |" in text
    assert f"| trained parameters | {handle.parameter_count:,} |" in text
    assert "| accuracy | 0.8438 |" in text


@pytest.mark.parametrize("path", ["/some/where/private/base", "../base", "~/base"])
def test_a_local_base_is_named_without_its_path(path):
    _, handle = attached(path)
    text = model_card(handle)
    assert "| base | base |" in text
    assert "base_model:" not in text
    assert path not in text


def test_a_model_in_memory_has_no_name():
    assert "a model in memory, without a name" in model_card(attached()[1])


def test_another_card_is_left_alone_and_our_own_is_renewed(tmp_path):
    model, handle = attached()
    model.save_pretrained(tmp_path)
    assert "Scores" not in (tmp_path / "README.md").read_text()
    handle.scores = {"loss": 1.5}
    model.save_pretrained(tmp_path)
    assert "| loss | 1.5 |" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


class Hub:
    """Stands in for the hub, and keeps what is uploaded: the names of the files, and the card."""

    def __init__(self):
        self.uploads = []

    def create_repo(self, name, **settings):
        return SimpleNamespace(repo_id=f"me/{name}")

    def upload_folder(self, *, folder_path, run_as_future, **settings):
        folder = Path(folder_path)
        self.uploads.append(({path.name for path in folder.iterdir()}, (folder / "README.md").read_text()))
        return Future() if run_as_future else None


def test_what_trainer_uploads_has_the_adapter_and_its_card(trainer, tmp_path, monkeypatch):
    hub = Hub()
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub)
    monkeypatch.setattr("transformers.trainer.PushInProgress.wait_until_done", lambda self: None)
    monkeypatch.setattr("transformers.trainer.PushInProgress.is_done", lambda self: True)
    model, handle = attached("some-lab/tiny-llama")
    callback = adapterlab.TrainerCallback(handle, scores={"accuracy": 0.5})
    run = trainer(model, callbacks=[callback], save_strategy="steps", save_steps=3, push_to_hub=True)
    run.train()
    run.push_to_hub()
    assert len(hub.uploads) == 3
    for files, text in hub.uploads:
        assert {"adapter.json", "adapter.safetensors"} <= files
        card = ModelCard(text)
        assert card.data.library_name == "adapterlab"
        assert "lora" in card.data.tags
        assert "| `rank` | `3` |" in text
        assert "| accuracy | 0.5 |" in text
    last = hub.uploads[-1][1]
    assert "### Training hyperparameters" in last
    assert "learning_rate: 0.01" in last


def test_what_a_model_uploads_is_the_adapter_and_its_card(monkeypatch):
    hub = Hub()

    def upload(api, **settings):
        return hub.upload_folder(run_as_future=False, **settings)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda api, name, **settings: hub.create_repo(name))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    model, handle = attached("some-lab/tiny-llama")
    model.push_to_hub("mine")
    ((files, text),) = hub.uploads
    assert {"adapter.json", "adapter.safetensors"} <= files
    assert "config.json" not in files
    assert ModelCard(text).data.base_model == "some-lab/tiny-llama"
    with pytest.raises(AdapterlabError, match="is uploaded without max_shard_size: leave it out"):
        model.push_to_hub("mine", max_shard_size="1GB")
    handle.detach()
    assert "push_to_hub" not in vars(model)
