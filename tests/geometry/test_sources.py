"""Changes by the names that users give: checkpoints, our adapters, PEFT's, and their bases."""

from __future__ import annotations

import json

import peft
import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import Change
from adapterlab.geometry.sources import base_named_by, identity_of, open_change
from adapterlab.models.loading import load
from adapterlab.surgery import attach
from tests.conftest import tiny_llama
from tests.geometry.checkpoints import configure, edit, save_pair

QUERY = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A LoRA of rank 2 on the embedded model, saved by this package, with the change that it makes to one weight."""
    folder = tmp_path_factory.mktemp("ours")
    model, _ = load("embedded")
    handle = attach(model, adapter("lora", rank=2), targets=["q_proj"])
    state = handle.sites[QUERY].trained
    with torch.no_grad():
        state["b"].fill_(0.01)
    handle.save(folder)
    delta = handle.adapter.alpha / 2 * state["b"] @ state["a"]
    return folder, delta.detach()


@pytest.fixture(scope="module")
def pefts(tmp_path_factory):
    """A LoRA of rank 2 that PEFT itself saved, with PEFT's own change of one weight."""
    folder = tmp_path_factory.mktemp("peft")
    model = load("embedded").model
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"]))
    layer = wrapped.get_submodule(f"base_model.model.{QUERY}")
    torch.nn.init.constant_(layer.lora_B["default"].weight, 0.01)
    wrapped.save_pretrained(folder)
    return folder, layer.get_delta_weight("default").detach()


def named(folder, base: str | None):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))


def assert_changes(change: Change, delta: torch.Tensor):
    found = change.read(QUERY).delta
    assert torch.allclose(found, delta, atol=1e-6)
    assert change.others == ()


def test_our_adapter_is_the_product_of_its_factors(ours):
    folder, delta = ours
    assert_changes(open_change(folder, "embedded"), delta)


def test_a_peft_folder_is_the_change_that_peft_makes(pefts):
    folder, delta = pefts
    assert_changes(open_change(folder, "embedded"), delta)


def test_the_base_of_a_peft_folder_defaults_to_the_one_it_names(pefts):
    folder, delta = pefts
    named(folder, "embedded")
    change = open_change(folder)
    assert change.base_name == "embedded"
    assert_changes(change, delta)


def test_the_base_in_a_folder_of_results_defaults_to_the_study_s(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"model": "embedded"}))
    assert base_named_by(tmp_path / "winner" / "adapterlab") == "embedded"


def test_an_adapter_that_names_no_base_asks_for_it(ours):
    with pytest.raises(AdapterlabError, match="does not name its base model: give --base"):
        open_change(ours[0])


def test_a_merged_adapter_and_the_adapter_are_one_change(ours, tmp_path):
    from adapterlab.surgery import load as load_adapter

    folder, delta = ours
    model, tokenizer = load("embedded")
    load_adapter(model, folder).save_merged(tmp_path / "merged", tokenizer)
    assert_changes(open_change(tmp_path / "merged", "embedded"), delta)


def test_our_adapter_recognizes_another_base(ours, tmp_path):
    model, tokenizer = load("embedded")
    with torch.no_grad():
        model.get_submodule(QUERY).weight.mul_(1.01)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        AdapterlabError,
        match=rf"trained on another base: in this model {QUERY}\.weight has other values; give that model as --base$",
    ):
        open_change(ours[0], tmp_path)


def test_a_peft_folder_refuses_a_base_that_differs_from_the_one_it_names(pefts, tmp_path):
    model, tokenizer = load("embedded")
    with torch.no_grad():
        model.get_submodule(QUERY).weight.mul_(1.01)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    named(pefts[0], "embedded")
    with pytest.raises(AdapterlabError, match="was trained on embedded, which is another model than"):
        open_change(pefts[0], tmp_path)


def test_a_peft_folder_whose_base_is_not_at_hand_says_so(pefts):
    named(pefts[0], "someone/some-model")
    change = open_change(pefts[0], "embedded")
    assert "names someone/some-model as its base, which is not at hand" in change.notes[0]


def test_a_base_of_other_shapes_is_named(pefts, tmp_path):
    named(pefts[0], None)
    tiny_llama().save_pretrained(tmp_path)
    load("embedded").tokenizer.save_pretrained(tmp_path)
    with pytest.raises(AdapterlabError, match=f"is {tmp_path} the model that it was trained on"):
        open_change(pefts[0], tmp_path)


def test_a_quantized_base_of_an_adapter_is_named(ours, tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    configure(tmp_path, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(AdapterlabError, match=r"is quantized \(bitsandbytes\)"):
        open_change(ours[0], tmp_path)


def test_a_whole_model_asks_for_its_base():
    with pytest.raises(AdapterlabError, match="needs the model that it was trained from: give --base"):
        open_change("embedded")


def test_a_model_and_itself_are_named(tmp_path):
    base, _ = save_pair(tmp_path)
    with pytest.raises(AdapterlabError, match="are the same model"):
        open_change(base, base.parent / "." / "base")


def test_an_adapter_is_no_base(ours):
    with pytest.raises(AdapterlabError, match="is an adapter: give the model that"):
        open_change("embedded", ours[0])


def test_a_folder_that_holds_adapters_names_one(ours, tmp_path):
    ours[0].rename(tmp_path / "adapterlab")
    try:
        with pytest.raises(AdapterlabError, match=r"holds no model: name a folder in it .*such as .*adapterlab"):
            open_change(tmp_path, "embedded")
    finally:
        (tmp_path / "adapterlab").rename(ours[0])


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(AdapterlabError, match=r"holds no \.safetensors weights"):
        open_change(tmp_path, "embedded")
    with pytest.raises(AdapterlabError, match="there is no folder"):
        open_change(tmp_path / "missing", "embedded")


def test_the_identity_of_sources_follows_their_files(tmp_path):
    base, tuned = save_pair(tmp_path)
    before = identity_of(tuned, base)
    assert identity_of(tuned, base) == before
    edit(tuned, model__norm__weight=torch.zeros(32))
    assert identity_of(tuned, base) != before
