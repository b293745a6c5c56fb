"""A merged model is a plain transformers folder that answers like the adapted model."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from adapterlab.surgery.model.new_heads import mark_new_heads
from tests.adapters.methods import SHIPPED, noisy, small
from tests.conftest import tiny_gpt2, tiny_llama

MERGEABLE = [name for name, method in SHIPPED.items() if method.mergeable]


def noisy_biases(model):
    """The same model with biases that are not zero, as they are in trained models."""
    noisy(p for name, p in model.named_parameters() if name.endswith("bias"))
    return model


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def kinds(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {key: (t.shape, t.dtype) for key, t in tensors(folder).items()}


def loaded(folder: Path, kind=AutoModelForCausalLM, caplog=None):
    """The model as transformers loads it, and what it said about the file."""
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    if caplog is not None:
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    return model.eval()


def assert_same_folder(model, handle, tokens, tmp_path, caplog, kind=AutoModelForCausalLM):
    """The folder has the base's tensors by name, shape and dtype, the adapted model's answers, and no side effect."""
    logging.getLogger("transformers").propagate = True
    before = {key: t.clone() for key, t in model.state_dict().items()}
    ours = model(tokens).logits
    handle.save_merged(tmp_path / "merged")
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    theirs = loaded(tmp_path / "merged", kind, caplog)
    torch.testing.assert_close(theirs(tokens).logits, ours, rtol=1e-5, atol=1e-5)


TRANSPOSED = ["lora", "ia3", "clover", "ln_tuning", "bitfit", "full_ft"]


@pytest.mark.parametrize(
    ("make", "name"), [*((tiny_llama, name) for name in MERGEABLE), *((tiny_gpt2, name) for name in TRANSPOSED)]
)
def test_transformers_loads_the_adapted_model(make, name, tokens, tmp_path, caplog):
    model = noisy_biases(make())
    model.save_pretrained(tmp_path / "base")
    plain = model(tokens).logits
    handle = attach(model, small(name))
    noisy(handle.parameters(), 0.1)
    assert (model(tokens).logits - plain).abs().max() > 1e-3
    assert_same_folder(model, handle, tokens, tmp_path, caplog)
    assert kinds(tmp_path / "merged") == kinds(tmp_path / "base")
    configs = [json.loads((tmp_path / side / "config.json").read_text()) for side in ("base", "merged")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("name", ["full_ft", "trainable_tokens"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_changed_embedding(name, tied, tokens, tmp_path, caplog):
    model = tiny_llama(tie_word_embeddings=tied)
    method = adapter("trainable_tokens", ids=tuple(tokens[0].unique().tolist())) if name != "full_ft" else small(name)
    handle = attach(model, method)
    noisy(handle.parameters(), 0.1)
    assert_same_folder(model, handle, tokens, tmp_path, caplog)
    stored = tensors(tmp_path / "merged")
    assert ("lm_head.weight" in stored) is not tied
    assert not torch.equal(stored["model.embed_tokens.weight"], model.model.embed_tokens.weight)


def test_a_new_classification_head(tokens, tmp_path, caplog):
    torch.manual_seed(0)
    config = LlamaConfig(**tiny_llama().config.to_diff_dict() | {"num_labels": 3, "pad_token_id": 0})
    model = LlamaForSequenceClassification(config).eval()
    mark_new_heads(model, ["score.weight"])
    handle = attach(model, small("lora"))
    noisy(handle.parameters(), 0.1)
    assert_same_folder(model, handle, tokens, tmp_path, caplog, AutoModelForSequenceClassification)
    assert torch.equal(tensors(tmp_path / "merged")["score.weight"], model.score.weight)


STACKS = [("lora", "oft"), ("clover", "lora"), ("oft", "full_ft"), ("full_ft", "oft"), ("ia3", "bitfit")]


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
@pytest.mark.parametrize("first_merged", [False, True])
@pytest.mark.parametrize("names", STACKS)
def test_every_attached_adapter_is_merged(names, first_merged, tokens, tmp_path, caplog):
    model = noisy_biases(tiny_llama())
    handles = []
    for i, name in enumerate(names):
        handles.append(attach(model, small(name), name=f"number{i}"))
        noisy(handles[-1].parameters(), 0.1)
    if first_merged:
        if names == ("full_ft", "oft"):
            pytest.skip("a parameter that is merged below a layer's adapter is the base of that adapter")
        handles[0].merge()
    for handle in handles:
        assert_same_folder(model, handle, tokens, tmp_path, caplog)
        shutil.rmtree(tmp_path / "merged")
    assert [any(site.merged for site in handle.sites.values()) for handle in handles] == [first_merged, False]


@pytest.mark.parametrize("merged", [False, True])
def test_strength_and_the_state_of_merging_stay(merged, tokens, tmp_path, caplog):
    model = tiny_llama()
    handle = attach(model, small("lora"))
    noisy(handle.parameters(), 0.1)
    handle.strength = 0.5
    if merged:
        handle.merge()
    assert_same_folder(model, handle, tokens, tmp_path, caplog)
    assert all(site.merged is merged and site.strength == 0.5 for site in handle.sites.values())


def test_a_disabled_adapter_is_left_out(tokens, tmp_path, caplog):
    model = tiny_llama()
    handle = attach(model, small("clover"))
    noisy(handle.parameters(), 0.1)
    with handle.disabled():
        assert_same_folder(model, handle, tokens, tmp_path, caplog)


def test_the_bases_dtype_is_kept(tokens, tmp_path, caplog):
    tiny_llama().bfloat16().save_pretrained(tmp_path / "base")
    model = loaded(tmp_path / "base")
    handle = attach(model, small("lora"))
    noisy(handle.parameters(), 0.1)
    handle.merge()
    assert_same_folder(model, handle, tokens, tmp_path, caplog)
    assert kinds(tmp_path / "merged") == kinds(tmp_path / "base")
    assert loaded(tmp_path / "merged").dtype == torch.bfloat16


def test_the_tokenizer_goes_along(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")))
    attach(tiny_llama(), small("lora")).save_merged(tmp_path, tokenizer)
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path).get_vocab() == {"a": 0, "b": 1}


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in MERGEABLE])
def test_a_method_that_changes_no_weight_is_named(name, tmp_path):
    handle = attach(tiny_llama(), small(name))
    with pytest.raises(AdapterlabError, match=rf"^{name} does not change weights.*save\(\)") as caught:
        handle.save_merged(tmp_path / "merged")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "merged").exists()


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
def test_a_failure_leaves_nothing_merged(tmp_path):
    model = tiny_llama()
    below, above = attach(model, small("lora")), attach(model, small("prompt"), name="prompt")
    with pytest.raises(AdapterlabError, match="prompt does not change weights"):
        below.save_merged(tmp_path / "merged")
    assert not any(site.merged for handle in (below, above) for site in handle.sites.values())


def test_a_quantized_base_is_named(tmp_path):
    tiny_llama(hidden_size=64, intermediate_size=64).save_pretrained(tmp_path / "base")
    quantization = BitsAndBytesConfig(load_in_4bit=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", quantization_config=quantization, device_map="cpu")
    for name in ("lora", "ln_tuning"):
        handle = attach(model, small(name))
        with pytest.raises(AdapterlabError, match=r"Linear4bit with quantized weights.*load the model unquantized"):
            handle.save_merged(tmp_path / "merged")
        handle.detach()
    assert not (tmp_path / "merged").exists()


def test_other_models_and_files_are_named(tmp_path):
    handle = attach(nn.Sequential(nn.Linear(4, 4)), adapter("lora", rank=2))
    with pytest.raises(AdapterlabError, match="Sequential is not a transformers model"):
        handle.save_merged(tmp_path / "merged")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AdapterlabError, match="is a file"):
        attach(tiny_llama(), small("lora")).save_merged(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
