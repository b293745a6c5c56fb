"""What is written for PEFT, PEFT loads, and the model then answers the same."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForSequenceClassification

from adapterlab.adapters import adapter
from adapterlab.adapters.peft_layout import CannotExportError
from adapterlab.surgery import attach
from adapterlab.surgery.export.peft_export import save_peft
from adapterlab.surgery.model.new_heads import mark_new_heads
from tests.adapters.methods import LINEAR, noisy, small
from tests.conftest import tiny_gpt2, tiny_llama

MERGED = {"boft", "ether", "fourierft", "frod", "goft", "randlora", "svft"}
"""Linear methods that PEFT cannot hold as they are by default, nor as a LoRA."""
NATIVE = {
    "lora": "LORA",
    "dora": "LORA",
    "pissa": "LORA",
    "adalora": "LORA",
    "ia3": "IA3",
    "vera": "VERA",
    "vblora": "VBLORA",
    "oft": "OFT",
    "oftv2": "OFT",
    "hra": "HRA",
    "loha": "LOHA",
    "lokr": "LOKR",
    "miss": "MISS",
    "bone": "MISS",
    "shira": "SHIRA",
    "c3a": "C3A",
    "road": "ROAD",
    "hira": "HIRA",
    "gralora": "GRALORA",
}
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning")]


ELSEWHERE = {
    "prompt": ("PROMPT_TUNING", {"length": 3}),
    "prefix": ("PREFIX_TUNING", {"length": 3, "hidden": 8}),
    "ptuning_v2": ("PREFIX_TUNING", {"length": 3}),
    "trainable_tokens": ("TRAINABLE_TOKENS", {"ids": (5, 3, 60)}),
    "ln_tuning": ("LN_TUNING", {}),
}


def answers(model, method, tokens, folder: Path, fresh, targets="all-linear") -> tuple[str, torch.Tensor, torch.Tensor]:
    """PEFT's name, and the logits of the adapted `model` and of `fresh` with the exported folder on it."""
    handle = attach(model, method, targets)
    noisy(handle.parameters(), 0.1)
    ours = model(tokens).logits
    try:
        kind = save_peft(handle, folder, "the-base")
    finally:
        handle.detach()
    theirs = peft.PeftModel.from_pretrained(fresh, str(folder)).eval()
    return kind, ours, theirs(tokens).logits[:, -tokens.shape[1] :]


@pytest.mark.parametrize("name", LINEAR)
def test_peft_answers_the_same(name, tokens, tmp_path):
    model, fresh = (tiny_llama(attention_bias=False) for _ in range(2))
    before = model(tokens).logits
    if name in MERGED:
        with pytest.raises(CannotExportError, match=name):
            answers(model, small(name), tokens, tmp_path, fresh)
        assert not list(tmp_path.iterdir())
        return
    kind, ours, theirs = answers(model, small(name), tokens, tmp_path, fresh)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    assert (ours - before).abs().max() > 1e-3
    assert kind == NATIVE.get(name, "LORA")


SETTINGS = [
    ("lora", {"rank": 4, "alpha": 3.0, "rslora": True}),
    ("lokr", {"rank": 2, "full": True, "factor": 4}),
    ("lokr", {"rank": 2, "both": True, "factor": 8}),
    ("oft", {"block_count": 2}),
    ("oft", {"block_size": 8, "block_share": True}),
    ("oftv2", {"block_size": 4, "neumann_terms": 4}),
    ("boft", {"block_size": 4, "factors": 1}),
    ("boft", {"block_size": 4, "factors": 1, "rescale": True}),
    ("hra", {"rank": 4, "strict": True}),
    ("delora", {"rank": 3, "zero_start": True}),
    ("c3a", {"block_size": 8, "scaled": True}),
    ("road", {"variant": 4, "group_size": 4}),
    ("miss", {"rank": 4, "efficient": False}),
    ("gralora", {"rank": 8, "blocks": 4, "alpha": 4.0}),
    ("gralora", {"rank": 4, "hybrid_rank": 3}),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_settings_go_along(name, settings, tokens, tmp_path):
    model, fresh = (tiny_llama(attention_bias=False) for _ in range(2))
    _, ours, theirs = answers(model, adapter(name, **settings), tokens, tmp_path, fresh)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ia3", "road"])
def test_biases_go_with_the_rest_of_the_answer(name, tokens, tmp_path):
    models = [tiny_llama() for _ in range(2)]
    for model in models:
        noisy(p for key, p in model.named_parameters() if key.endswith("bias"))
    _, ours, theirs = answers(models[0], small(name), tokens, tmp_path, models[1])
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


def test_a_changed_bias_is_not_lost_in_a_lora(tokens, tmp_path, llama, monkeypatch):
    monkeypatch.setattr(type(small("psoft")), "bias", lambda self, state, bias, strength=1.0: 2 * bias)
    noisy(p for key, p in llama.named_parameters() if key.endswith("bias"))
    with pytest.raises(CannotExportError, match=r"changes model\.\S+\.bias, and a LoRA changes only weights"):
        answers(llama, small("psoft"), tokens, tmp_path, tiny_llama())


@pytest.mark.parametrize("name", ["lora", "dora", "pissa", "hra", "vera", "miss", "hira", "gralora"])
def test_gpt2s_transposed_layers(name, tokens, tmp_path):
    _, ours, theirs = answers(tiny_gpt2(), small(name), tokens, tmp_path, tiny_gpt2())
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_stands_elsewhere_than_on_linear_layers(make, name, tokens, tmp_path):
    kind, settings = ELSEWHERE[name]
    before = make()(tokens).logits
    found, ours, theirs = answers(make(), adapter(name, **settings), tokens, tmp_path, make())
    assert found == kind
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    assert (ours - before).abs().max() > 1e-3


def test_a_fresh_head_goes_along(tokens, tmp_path):
    def classifier():
        torch.manual_seed(0)
        config = LlamaConfig(**tiny_llama().config.to_diff_dict() | {"num_labels": 3, "pad_token_id": 0})
        return LlamaForSequenceClassification(config).eval()

    model, fresh = classifier(), classifier()
    mark_new_heads(model, ["score.weight"])
    handle = attach(model, small("lora"))
    noisy(handle.parameters(), 0.1)
    ours = model(tokens).logits
    save_peft(handle, tmp_path, "the-base", "SEQ_CLS")
    theirs = peft.PeftModel.from_pretrained(fresh, str(tmp_path)).eval()
    torch.testing.assert_close(theirs(tokens).logits, ours, rtol=1e-4, atol=1e-5)


def test_what_changes_no_weight_is_named(tokens, tmp_path):
    handle = attach(tiny_llama(), small("reft"))
    with pytest.raises(CannotExportError, match="PEFT has no equivalent of reft"):
        save_peft(handle, tmp_path, "the-base")
    assert not list(tmp_path.iterdir())


def test_a_prompt_before_a_fresh_head_is_named(tmp_path):
    config = LlamaConfig(**tiny_llama().config.to_diff_dict() | {"num_labels": 3, "pad_token_id": 0})
    model = LlamaForSequenceClassification(config)
    mark_new_heads(model, ["score.weight"])
    with pytest.raises(CannotExportError, match="cannot train a new head"):
        save_peft(attach(model, adapter("prompt", length=3)), tmp_path, "the-base", "SEQ_CLS")


def test_the_folder_is_pefts_two_files(tokens, tmp_path):
    handle = attach(tiny_llama(), small("lora"))
    save_peft(handle, tmp_path, "the-base")
    assert {p.name for p in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "the-base"
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in file.keys()  # noqa: SIM118
