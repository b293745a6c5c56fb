"""Saving and loading, and what is said when the files are not what they should be."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, load
from adapterlab.surgery.adapter_files import CARD, TENSORS
from tests.adapters.methods import ALL, small
from tests.conftest import tiny_llama
from tests.surgery.test_attach import train


@pytest.mark.parametrize("name", ALL)
def test_a_saved_adapter_answers_as_before(name, tmp_path, tokens):
    model = tiny_llama()
    handle = attach(model, small(name), seed=5)
    train(model, handle, tokens)
    handle.save(tmp_path / "saved")
    other = tiny_llama()
    loaded = load(other, tmp_path / "saved")
    assert loaded.adapter == handle.adapter
    assert torch.equal(other(tokens).logits, model(tokens).logits)


def test_what_sites_share_is_written_once(tmp_path, llama):
    attach(llama, small("vera")).save(tmp_path)
    matrices = [t for t in load_file(tmp_path / "adapter.safetensors").values() if t.ndim == 2]
    assert len(matrices) == 2


@pytest.mark.parametrize("name", ["svft", "ssvd", "psoft", "antipasto", "clover"])
def test_what_the_base_gives_again_is_not_written(name, tmp_path):
    model = tiny_llama()
    handle = attach(model, small(name))
    handle.save(tmp_path)
    written = sum(t.numel() for t in load_file(tmp_path / "adapter.safetensors").values())
    derived = sum(t.numel() for site in handle.sites.values() for t in site.state.derived.values())
    assert written < handle.parameter_count + derived / 4
    assert not any(key.endswith((".u", ".vt", ".basis", ".outer")) for key in model.state_dict())


def test_another_base_of_the_same_shapes_is_refused_where_it_matters(tmp_path):
    attach(tiny_llama(), small("svft")).save(tmp_path)
    refused(tmp_path, "trained on another base", tiny_llama(seed=1))


@pytest.fixture
def saved(tmp_path, llama):
    attach(llama, small("lora")).save(tmp_path / "lora")
    return tmp_path / "lora"


def refused(folder, message, model=None):
    model = model or tiny_llama()
    structure = repr(model)
    with pytest.raises(AdapterlabError, match=message):
        load(model, folder)
    assert repr(model) == structure


def test_a_torn_file_is_named_and_kept(saved):
    tensors = saved / "adapter.safetensors"
    torn = tensors.read_bytes()[:-100]
    tensors.write_bytes(torn)
    refused(saved, r"adapter\.safetensors is damaged")
    assert tensors.read_bytes() == torn


def test_a_damaged_card_is_named(saved):
    (saved / "adapter.json").write_text("{")
    refused(saved, r"adapter\.json is damaged")


def test_a_pickle_is_refused_by_name(saved):
    (saved / "adapter.safetensors").rename(saved / "adapter.bin")
    refused(saved, r"adapter\.bin is a pickle")


def test_a_missing_folder_is_named(tmp_path):
    refused(tmp_path / "nowhere", "does not exist")


def test_another_model_is_refused(saved):
    other = tiny_llama(intermediate_size=64)
    refused(saved, r"another base: in this model model\.layers\.0\.mlp\.gate_proj\.weight has another shape", other)
    with pytest.raises(AdapterlabError, match=r"made for another model: at model\.layers\.0\.mlp\.gate_proj/b"):
        load(other, saved, any_base=True)


def test_an_unknown_method_in_the_card_is_named(saved):
    card = json.loads((saved / "adapter.json").read_text())
    card["adapter"]["name"] = "lorra"
    (saved / "adapter.json").write_text(json.dumps(card))
    refused(saved, "unknown adapter 'lorra': did you mean lora")


def test_saving_writes_through_no_link(tmp_path):
    other, folder = tmp_path / "other.txt", tmp_path / "saved"
    other.write_text("precious")
    folder.mkdir()
    for name in (CARD, TENSORS):
        for link in (name, f"{name}.partial"):
            (folder / link).symlink_to(other)
    attach(tiny_llama(), small("lora")).save(folder)
    assert other.read_text() == "precious"
    load(tiny_llama(), folder)
