"""The model card: written with every adapter folder, and never over another card."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

import adapterlab
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
    assert "| targets | q_proj, v_proj |" in text
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
