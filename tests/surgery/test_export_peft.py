"""`handle.export_peft`: exactly, or the nearest LoRA with its error stated."""

from __future__ import annotations

import itertools
import json
import re

import peft
import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model

from adapterlab.adapters import adapter
from adapterlab.adapters.peft_layout import CannotExportError
from adapterlab.surgery import attach
from tests.adapters.methods import noisy, small
from tests.conftest import tiny_gpt2, tiny_llama

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.filterwarnings("ignore:the adapter attached before is frozen"),
]
NEAREST = ["boft", "clover", "ether", "fourierft", "goft", "randlora", "svft"]
"""Methods that PEFT cannot hold as they are by default."""


def attached(name, model=None, **settings):
    handle = attach(model or tiny_llama(attention_bias=False), adapter(name, **settings) if settings else small(name))
    noisy(handle.parameters(), 0.1)
    return handle


@torch.no_grad()
def difference(model, theirs):
    """Relative error of PEFT's change of all weights, from the two merged models."""
    base = dict(tiny_llama(attention_bias=False).named_parameters())
    changed, whole = 0.0, 0.0
    other = dict(theirs.merge_and_unload().named_parameters())
    for name, own in model.named_parameters():
        if name in base and not torch.equal(own, base[name]):
            changed += float((other[name] - own).double().square().sum())
            whole += float((own - base[name]).double().square().sum())
    return (changed / whole) ** 0.5


@pytest.mark.parametrize("name", NEAREST)
def test_the_stated_error_is_that_of_pefts_weights(name, tmp_path):
    handle = attached(name)
    rank = 1 if name == "ether" else 4  # ether's change has rank 2
    export = handle.export_peft(tmp_path, "the-base", nearest=rank)
    assert (export.kind, export.nearest) == ("LORA", rank)
    assert 0.001 < export.error < 1
    theirs = peft.PeftModel.from_pretrained(tiny_llama(attention_bias=False), str(tmp_path))
    if name != "clover":  # which merges into two layers that share one change
        handle.merge()
        assert difference(handle.model, theirs) == pytest.approx(export.error, rel=1e-3)
    text = (tmp_path / "README.md").read_text()
    assert f"relative error is {export.error:.2%}" in text
    for path, error in export.errors.items():
        assert f"| {path} | {error:.2%} |" in text
    whole = sum(error**2 for error in export.errors.values())
    assert export.error <= whole**0.5


def plain_llama():
    return tiny_llama(attention_bias=False)


@pytest.mark.parametrize(("name", "make"), itertools.product(["clover", "svft"], [plain_llama, tiny_gpt2]))
def test_a_rank_that_suffices_gives_the_same_answers(name, make, tokens, tmp_path):
    handle = attached(name, make())
    before = make()(tokens).logits
    export = handle.export_peft(tmp_path, "the-base", nearest=10_000)
    assert export.nearest == 32
    assert export.error < 1e-5
    theirs = peft.PeftModel.from_pretrained(make(), str(tmp_path)).eval()
    torch.testing.assert_close(theirs(tokens).logits, handle.model(tokens).logits, rtol=1e-4, atol=1e-5)
    assert (theirs(tokens).logits - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", NEAREST)
def test_without_a_rank_the_message_has_two_that_suffice(name, tmp_path):
    handle = attached(name)
    with pytest.raises(CannotExportError, match=f"{name}.*give nearest=") as caught:
        handle.export_peft(tmp_path / "none", "the-base")
    assert not (tmp_path / "none").exists()
    assert "\n" not in str(caught.value)
    tenth, hundredth = (
        int(re.search(pattern, str(caught.value)).group(1)) for pattern in (r"10 % at rank (\d+)", r"1 % at rank (\d+)")
    )
    for rank, bound in ((tenth, 0.1), (hundredth, 0.01)):
        assert handle.export_peft(tmp_path / str(rank), "the-base", nearest=rank).error <= bound
        if rank > 1:
            assert handle.export_peft(tmp_path / "less", "the-base", nearest=rank - 1).error > bound


@pytest.mark.parametrize("name", ["lora", "hra", "antipasto", "psoft"])
def test_what_peft_holds_is_exact_also_with_a_rank(name, tokens, tmp_path):
    handle = attached(name)
    export = handle.export_peft(tmp_path, "the-base", nearest=1)
    assert (export.nearest, export.error, export.errors) == (None, 0.0, {})
    assert {p.name for p in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    theirs = peft.PeftModel.from_pretrained(tiny_llama(attention_bias=False), str(tmp_path)).eval()
    torch.testing.assert_close(theirs(tokens).logits, handle.model(tokens).logits, rtol=1e-4, atol=1e-5)


def test_the_base_and_the_task_are_found(tmp_path):
    def config_of(model, base=None):
        attach(model, adapter("lora", rank=2)).export_peft(tmp_path, base)
        return json.loads((tmp_path / "adapter_config.json").read_text())

    shape = GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=4, n_positions=64, pad_token_id=0)
    kinds = {GPT2LMHeadModel: "CAUSAL_LM", GPT2ForSequenceClassification: "SEQ_CLS", GPT2Model: None}
    assert {kind: config_of(kind(shape))["task_type"] for kind in kinds} == kinds
    assert config_of(tiny_llama())["base_model_name_or_path"] is None
    tiny_llama().save_pretrained(tmp_path / "base")
    model = type(tiny_llama()).from_pretrained(tmp_path / "base")
    assert config_of(model)["base_model_name_or_path"] == str(tmp_path / "base")
    assert peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path).active_adapter == "default"
    assert config_of(tiny_llama(), "mine")["base_model_name_or_path"] == "mine"


@pytest.mark.parametrize("name", ["full_ft", "bitfit", "clover"])
def test_a_change_beside_the_layers_is_named(name, tmp_path):
    model = tiny_llama()
    noisy(p for key, p in model.named_parameters() if key.endswith("bias"))
    with pytest.raises(CannotExportError, match=rf"{name} changes model\.\S+, and a LoRA changes only weights"):
        attached(name, model).export_peft(tmp_path, "the-base", nearest=4)
    assert not list(tmp_path.iterdir())


def test_a_method_that_changes_no_weight_is_named(tmp_path):
    with pytest.raises(CannotExportError, match="PEFT has no equivalent of reft"):
        attached("reft").export_peft(tmp_path, "the-base", nearest=4)


@pytest.mark.parametrize("name", ["lora", "ln_tuning", "fourierft"])
def test_files_that_would_give_something_else_are_refused(name, tmp_path):
    handle = attached(name)
    handle.strength = 0.5
    with pytest.raises(CannotExportError, match=r"strength is 0.5.*handle.strength = 1"):
        handle.export_peft(tmp_path, "the-base", nearest=4)
    handle.strength = 1.0
    handle.merge()
    with pytest.raises(CannotExportError, match="is merged: unmerge"):
        handle.export_peft(tmp_path, "the-base", nearest=4)
    handle.unmerge()
    with pytest.raises(CannotExportError, match="nearest=0 is not a rank"):
        handle.export_peft(tmp_path, "the-base", nearest=0)
    if name == "lora":
        above = attach(handle.model, small("oft"), name="above")
        with pytest.raises(CannotExportError, match="another adapter is attached below at"):
            above.export_peft(tmp_path, "the-base")
    assert not list(tmp_path.iterdir())
