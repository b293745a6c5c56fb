"""The embedded base model."""

from __future__ import annotations

import re

import pytest
from transformers import AutoModelForCausalLM

from adapterlab.errors import AdapterlabError
from adapterlab.models.fingerprint import folder_of
from adapterlab.models.loading import load_causal
from adapterlab.models.pretrain import Recipe, batch_at
from adapterlab.tasks.scoring import score_text
from adapterlab.tasks.text import base_domain

BASE = folder_of("embedded")


def test_transformers_loads_it_and_it_is_small():
    model = AutoModelForCausalLM.from_pretrained(BASE)
    assert 4e6 < sum(p.numel() for p in model.parameters()) < 5e6
    assert sum(file.stat().st_size for file in BASE.iterdir()) < 10e6


def test_its_loss_is_the_one_on_its_card():
    card = (BASE / "README.md").read_text()
    stated = float(re.search(r"\*\*([\d.]+) nats per byte", card)[1])
    assert stated <= 0.85
    # Windows of 128 tokens, none of them with the context that the card's figure had.
    loaded = load_causal()
    assert stated < score_text(loaded.model, base_domain(loaded.tokenizer, 128, 64)).loss < stated + 0.35


def test_its_tokenizer_round_trips_every_byte():
    tokenizer = load_causal().tokenizer
    text = "def f(x):\n\treturn x  # naïve 'ünï' \r\n  € 1234"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(AdapterlabError, match=r"holds no \.safetensors"):
        load_causal(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("./nowhere", r"there is no folder \./nowhere: give one that holds a model"),
        ("/no/such/place", "there is no folder /no/such/place"),
        ("nobody/nothing", "cannot load the model 'nobody/nothing': .*; there is no folder of that name either"),
    ],
)
def test_a_missing_model_is_named(source, says):
    with pytest.raises(AdapterlabError, match=says):
        load_causal(source)


def test_truncated_weights_are_named_and_kept(tmp_path):
    for file in BASE.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: None if file.suffix == ".json" else -1000])
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(AdapterlabError, match="cannot load the model"):
        load_causal(str(tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_every_window_of_the_stream_is_seen_once_in_an_epoch():
    import torch

    recipe = Recipe(batch=2, context=8)
    stream = torch.arange(8 * 21)
    seen = torch.cat([batch_at(stream, step, recipe) for step in range(10)])
    assert len(set(seen[:, 0].tolist())) == 20
