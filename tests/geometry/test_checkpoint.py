"""Changes between two checkpoints: layers by the model's structure, values, and bad input named."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, LlamaModel

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.checkpoint import Checkpoint
from adapterlab.geometry.checkpoint_change import CheckpointChange
from adapterlab.surgery.model.linear_layers import linears
from tests.conftest import tiny_gpt2, tiny_llama
from tests.geometry.checkpoints import configure, edit, save_pair

QUERY = "model.layers.0.self_attn.q_proj"


def opened(base, tuned) -> CheckpointChange:
    return CheckpointChange(Checkpoint(base), Checkpoint(tuned))


def test_layers_are_those_that_adapters_are_attached_to(tmp_path):
    change = opened(*save_pair(tmp_path))
    layers = linears(tiny_llama())
    assert dict(change.shapes) == {path: tuple(layer.weight.shape) for path, layer in layers.items()}
    changed = [layer.path for layer in change if layer.norm]
    assert changed == [QUERY, "model.layers.0.mlp.up_proj"]


def test_weights_are_those_of_the_models(tmp_path):
    base, tuned = save_pair(tmp_path)
    layer = opened(base, tuned).read(QUERY)
    assert torch.equal(layer.base, load_file(base / "model.safetensors")[f"{QUERY}.weight"])
    assert torch.equal(layer.tuned, load_file(tuned / "model.safetensors")[f"{QUERY}.weight"])
    assert int(torch.linalg.matrix_rank(layer.delta, rtol=1e-4)) == 2


def test_shards_are_read_as_one_model(tmp_path):
    base, tuned = save_pair(tmp_path / "shards", max_shard_size="20KB")
    whole = opened(*save_pair(tmp_path / "whole"))
    assert len(Checkpoint(base).files) > 1
    for layer, expected in zip(opened(base, tuned), whole, strict=True):
        assert torch.equal(layer.delta, expected.delta)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_compared_in_float32(tmp_path, dtype):
    base, tuned = save_pair(tmp_path, tiny_llama().to(dtype))
    layer = opened(base, tuned).read(QUERY)
    stored = load_file(tuned / "model.safetensors")[f"{QUERY}.weight"]
    assert layer.delta.dtype == torch.float32
    assert torch.equal(layer.tuned, stored.float())


def test_a_side_in_float64_is_compared_in_float64(tmp_path):
    base, tuned = save_pair(tmp_path)
    edit(tuned, **{f"{QUERY}.weight".replace(".", "__"): torch.zeros(32, 32, dtype=torch.float64)})
    assert opened(base, tuned).read(QUERY).base.dtype == torch.float64


def test_transposed_layers_of_gpt2_have_their_outputs_first(tmp_path):
    model = tiny_gpt2()
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    model.save_pretrained(base)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[3, 100] += 1
    model.save_pretrained(tuned)
    change = opened(base, tuned)
    path = "transformer.h.1.mlp.c_fc"
    assert change.shapes[path] == (128, 32)
    assert change.read(path).delta[100, 3] == pytest.approx(1)


def test_names_may_lack_the_prefix_of_the_base_model_on_one_side(tmp_path):
    base, tuned = save_pair(tmp_path)
    bare = {key.removeprefix("model."): tensor for key, tensor in load_file(tuned / "model.safetensors").items()}
    save_file(bare, tuned / "model.safetensors", {"format": "pt"})
    assert next(layer.path for layer in opened(base, tuned) if layer.norm) == QUERY
    backbone = tmp_path / "backbone"
    LlamaModel.from_pretrained(base).save_pretrained(backbone)
    assert not opened(backbone, backbone).read("layers.0.self_attn.q_proj").norm


def test_norms_embeddings_and_heads_are_other_changes(tmp_path):
    base, tuned = save_pair(tmp_path, tiny_llama(tie_word_embeddings=False))
    weights = load_file(tuned / "model.safetensors")
    edit(
        tuned,
        model__norm__weight=weights["model.norm.weight"] + 1,
        model__embed_tokens__weight=weights["model.embed_tokens.weight"] * 1.5,
        lm_head__weight=weights["lm_head.weight"] * 2,
    )
    others = {each.path: each for each in opened(base, tuned).others}
    assert set(others) == {"model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"}
    assert others["model.norm.weight"].norm == pytest.approx(32**0.5)
    assert others["model.embed_tokens.weight"].relative_norm == pytest.approx(0.5)
    assert others["lm_head.weight"].relative_norm == pytest.approx(1)


def test_rows_of_new_tokens_are_left_out_of_the_comparison(tmp_path):
    base, tuned = save_pair(tmp_path)
    table = load_file(tuned / "model.safetensors")["model.embed_tokens.weight"]
    edit(tuned, model__embed_tokens__weight=torch.cat([table, torch.ones(3, 32)]))
    assert opened(base, tuned).others == ()


def test_tied_embeddings_that_one_side_stores_twice_are_the_same(tmp_path):
    base, tuned = save_pair(tmp_path)
    edit(tuned, lm_head__weight=load_file(tuned / "model.safetensors")["model.embed_tokens.weight"].clone())
    assert opened(base, tuned).others == ()


def test_weights_tied_on_one_side_alone_are_refused(tmp_path):
    base, tuned = save_pair(tmp_path)
    edit(tuned, lm_head__weight=torch.ones(64, 32))
    with pytest.raises(AdapterlabError, match=r"base ties its output head .*tuned has a head of its own"):
        opened(base, tuned)
    configure(tuned, tie_word_embeddings=False)
    with pytest.raises(AdapterlabError, match="same tie_word_embeddings"):
        opened(base, tuned)


def test_layers_of_a_folder_without_configuration_are_found_by_name(tmp_path):
    base, tuned = save_pair(tmp_path)
    (base / "config.json").unlink()
    (tuned / "config.json").unlink()
    change = opened(base, tuned)
    assert set(change.shapes) == set(linears(tiny_llama()))
    assert any("found by the names of its tensors, since it has no config.json" in note for note in change.notes)


def test_an_encoder_has_a_geometry_too(tmp_path):
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    model = BertModel(config)
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        model.encoder.layer[0].attention.self.query.weight += 1
    model.save_pretrained(tmp_path / "tuned")
    change = opened(tmp_path / "base", tmp_path / "tuned")
    assert change.read("encoder.layer.0.attention.self.query").norm == pytest.approx(16)


def refused(base, tuned, pattern: str) -> None:
    with pytest.raises(AdapterlabError, match=pattern) as found:
        list(opened(base, tuned))
    assert "\n" not in str(found.value)


def test_another_architecture_is_named(tmp_path):
    base, _ = save_pair(tmp_path)
    tiny_gpt2().save_pretrained(tmp_path / "other")
    refused(base, tmp_path / "other", r"other is a gpt2 model and .*base a llama model")


def test_other_shapes_are_named(tmp_path):
    base, _ = save_pair(tmp_path)
    tiny_llama(intermediate_size=40).save_pretrained(tmp_path / "other")
    refused(base, tmp_path / "other", r"mlp\.gate_proj is \[48, 32\] in .*base and \[40, 32\]")


def test_another_depth_is_named(tmp_path):
    base, _ = save_pair(tmp_path)
    tiny_llama(num_hidden_layers=3).save_pretrained(tmp_path / "other")
    refused(base, tmp_path / "other", r"other has model\.layers\.2\.\S+, and .*base does not")


def test_a_missing_tensor_is_named(tmp_path):
    base, tuned = save_pair(tmp_path)
    edit(tuned, **{f"{QUERY}.weight".replace(".", "__"): None})
    refused(base, tuned, rf"tuned lacks {QUERY}\.weight")


def test_a_shard_that_lacks_a_tensor_is_named(tmp_path):
    base, tuned = save_pair(tmp_path, max_shard_size="20KB")
    index = json.loads((tuned / "model.safetensors.index.json").read_text())["weight_map"]
    file = tuned / index[f"{QUERY}.weight"]
    save_file({k: v for k, v in load_file(file).items() if k != f"{QUERY}.weight"}, file)
    refused(base, tuned, rf"{file.name} lacks {QUERY}\.weight")
    file.unlink()
    refused(base, tuned, rf"{file.name} does not exist")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named_with_its_file(tmp_path, value):
    base, tuned = save_pair(tmp_path)
    edit(tuned, **{f"{QUERY}.weight".replace(".", "__"): torch.full((32, 32), value)})
    refused(base, tuned, rf"{QUERY}\.weight in .*tuned/model\.safetensors holds NaN or infinity")


def test_a_file_that_is_cut_off_is_named(tmp_path):
    base, tuned = save_pair(tmp_path)
    file = tuned / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(base, tuned, r"model\.safetensors is damaged or cut off")


def test_a_quantized_side_is_named(tmp_path):
    base, tuned = save_pair(tmp_path)
    configure(tuned, quantization_config={"quant_method": "gptq", "bits": 4})
    refused(base, tuned, r"tuned is quantized \(gptq\)")


def test_integers_in_place_of_a_weight_are_named(tmp_path):
    base, tuned = save_pair(tmp_path)
    edit(tuned, **{f"{QUERY}.weight".replace(".", "__"): torch.ones(32, 32, dtype=torch.int8)})
    refused(base, tuned, rf"{QUERY}\.weight in .* is stored as I8")


def test_pickles_are_not_read(tmp_path):
    base, tuned = save_pair(tmp_path)
    (tuned / "model.safetensors").rename(tuned / "pytorch_model.bin")
    refused(base, tuned, r"pytorch_model\.bin is a pickle")


def test_a_damaged_configuration_is_named(tmp_path):
    base, tuned = save_pair(tmp_path)
    (tuned / "config.json").write_text('{"model_type": ')
    refused(base, tuned, r"config\.json is damaged")
