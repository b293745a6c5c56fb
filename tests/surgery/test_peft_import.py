"""Load adapters that PEFT saved: equal outputs in both directions, and no setting is ignored."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForSequenceClassification

import adapterlab
from adapterlab.adapters.base import Adapter
from adapterlab.adapters.peft_source import CannotLoadError
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import load_peft
from adapterlab.surgery.export.peft_export import save_peft
from tests.adapters.methods import SHIPPED, noisy
from tests.conftest import tiny_gpt2, tiny_llama

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
]
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SQUARE = ["q_proj", "o_proj"]
CAUSAL = {"task_type": "CAUSAL_LM"}


def lora(**settings):
    return peft.LoraConfig(target_modules=LAYERS, **settings)


SHARED = {
    "lora": ("lora", lora(r=3, lora_alpha=5, init_lora_weights="gaussian")),
    "rslora": ("lora", lora(r=3, lora_alpha=5, use_rslora=True)),
    "lora orthogonal": ("lora", lora(r=4, init_lora_weights="orthogonal")),
    "lora patterns": (
        "lora",
        lora(r=3, lora_alpha=5, rank_pattern={"q_proj": 5, "layers.1.mlp.up_proj": 2}, alpha_pattern={"v_proj": 9}),
    ),
    "rslora patterns": ("lora", lora(r=3, use_rslora=True, rank_pattern={"q_proj": 5}, alpha_pattern={"q_proj": 9})),
    "dora": ("dora", lora(r=3, lora_alpha=5, use_dora=True)),
    "dora patterns": (
        "dora",
        lora(r=3, use_dora=True, use_rslora=True, rank_pattern={"q_proj": 5}, alpha_pattern={"k_proj": 3}),
    ),
    "pissa": ("pissa", lora(r=3, lora_alpha=5, init_lora_weights="pissa")),
    "adalora": (
        "adalora",
        peft.AdaLoraConfig(target_modules=LAYERS, init_r=4, target_r=2, lora_alpha=6, tinit=2, tfinal=3, total_step=14),
    ),
    "ia3": ("ia3", peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "vera": ("vera", peft.VeraConfig(target_modules=LAYERS, r=16, d_initial=0.2)),
    "vblora": ("vblora", peft.VBLoRAConfig(target_modules=LAYERS, r=3, num_vectors=12, vector_length=4, topk=3)),
    "vblora top": (
        "vblora",
        peft.VBLoRAConfig(
            target_modules=LAYERS, r=3, num_vectors=12, vector_length=4, topk=3, save_only_topk_weights=True
        ),
    ),
    "oft": ("oft", peft.OFTConfig(target_modules=LAYERS, oft_block_size=4, use_cayley_neumann=False)),
    "oft shared": (
        "oft",
        peft.OFTConfig(target_modules=LAYERS, r=2, oft_block_size=0, block_share=True, use_cayley_neumann=False),
    ),
    "oftv2": ("oftv2", peft.OFTConfig(target_modules=LAYERS, oft_block_size=4, num_cayley_neumann_terms=6)),
    "boft": ("boft", peft.BOFTConfig(target_modules=LAYERS, boft_block_size=4)),
    "hra": ("hra", peft.HRAConfig(target_modules=LAYERS, r=4)),
    "hra strict": ("hra", peft.HRAConfig(target_modules=LAYERS, r=4, apply_GS=True)),
    "loha": ("loha", peft.LoHaConfig(target_modules=LAYERS, r=3, alpha=5)),
    "loha patterns": (
        "loha",
        peft.LoHaConfig(target_modules=LAYERS, r=3, alpha=5, rank_pattern={"q_proj": 5}, alpha_pattern={"k_proj": 2}),
    ),
    "hira": ("hira", peft.HiraConfig(target_modules=LAYERS, r=3)),
    "hira patterns": ("hira", peft.HiraConfig(target_modules=LAYERS, r=3, rank_pattern={"q_proj": 5})),
    "gralora": ("gralora", peft.GraloraConfig(target_modules=LAYERS, r=4, alpha=6)),
    "gralora hybrid": ("gralora", peft.GraloraConfig(target_modules=LAYERS, r=4, gralora_k=4, hybrid_r=2, alpha=5)),
    "lokr": ("lokr", peft.LoKrConfig(target_modules=LAYERS, r=2, alpha=3)),
    "lokr both": ("lokr", peft.LoKrConfig(target_modules=SQUARE, r=1, alpha=3, decompose_both=True)),
    "lokr factor": ("lokr", peft.LoKrConfig(target_modules=LAYERS, r=2, alpha=3, decompose_factor=4)),
    "lokr full": ("lokr", peft.LoKrConfig(target_modules=LAYERS, r=100, alpha=3)),
    "miss": ("miss", peft.MissConfig(target_modules=LAYERS, r=5)),
    "bone": ("bone", peft.MissConfig(target_modules=LAYERS, r=4, init_weights="bat")),
    "shira": ("shira", peft.ShiraConfig(target_modules=LAYERS, r=2)),
    "c3a": ("c3a", peft.C3AConfig(target_modules=LAYERS, block_size=8)),
    "road": ("road", peft.RoadConfig(target_modules=LAYERS, group_size=4)),
    "road 2": ("road", peft.RoadConfig(target_modules=LAYERS, variant="road_2", group_size=8)),
    "road 4": ("road", peft.RoadConfig(target_modules=LAYERS, variant="road_4", group_size=8)),
    "fourierft": ("fourierft", peft.FourierFTConfig(target_modules=LAYERS, n_frequency=20, scaling=30.0)),
    "randlora": ("randlora", peft.RandLoraConfig(target_modules=LAYERS, r=3, randlora_alpha=5)),
    "randlora sparse": ("randlora", peft.RandLoraConfig(target_modules=SQUARE, r=4, randlora_alpha=5, sparse=True)),
    "delora": ("delora", peft.DeloraConfig(target_modules=LAYERS, r=3, delora_lambda=6)),
    "psoft": ("psoft", peft.PsoftConfig(target_modules=LAYERS, r=4, psoft_alpha=3)),
    "psoft strict": (
        "psoft",
        peft.PsoftConfig(target_modules=LAYERS, r=4, psoft_mag_a=False, psoft_mag_b=False, use_cayley_neumann=True),
    ),
    "ln_tuning": (
        "ln_tuning",
        peft.LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"]),
    ),
    "prompt": ("prompt", peft.PromptTuningConfig(num_virtual_tokens=3, **CAUSAL)),
    "p-tuning": ("prompt", peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8, **CAUSAL)),
    "prefix": ("ptuning_v2", peft.PrefixTuningConfig(num_virtual_tokens=3, **CAUSAL)),
    "prefix projected": (
        "ptuning_v2",
        peft.PrefixTuningConfig(num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=8, **CAUSAL),
    ),
    "tokens": (
        "trainable_tokens",
        peft.TrainableTokensConfig(token_indices=[5, 3, 60], target_modules=["embed_tokens"]),
    ),
}
ONE_WAY = {"fourierft"}
"""PEFT draws the entries from a seed again, and cannot be given others."""
GPT2 = ["c_attn", "c_proj", "c_fc"]
ON_GPT2 = {
    "lora": peft.LoraConfig(target_modules=GPT2, r=3, lora_alpha=5, fan_in_fan_out=True),
    "dora": peft.LoraConfig(target_modules=GPT2, r=3, use_dora=True, fan_in_fan_out=True),
    "pissa": peft.LoraConfig(target_modules=GPT2, r=3, lora_alpha=5, init_lora_weights="pissa", fan_in_fan_out=True),
    "ia3": peft.IA3Config(
        target_modules=["attn.c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True
    ),
    "vera": peft.VeraConfig(target_modules=GPT2, r=16, fan_in_fan_out=True),
    "ln_tuning": peft.LNTuningConfig(target_modules=["ln_1", "ln_2", "ln_f"]),
    "prompt": SHARED["prompt"][1],
    "ptuning_v2": SHARED["prefix"][1],
    "trainable_tokens": peft.TrainableTokensConfig(token_indices=[5, 3, 60], target_modules=["wte"]),
}


def logits(model, tokens):
    return model.eval()(tokens).logits[:, -tokens.shape[1] :]


def saved_by_peft(model, config, folder: Path, tokens) -> torch.Tensor:
    """The logits of PEFT's adapter with noise on everything that it trains, which it has saved."""
    torch.manual_seed(1)
    theirs = peft.get_peft_model(model, dataclasses.replace(config))
    noisy([p for p in theirs.parameters() if p.requires_grad], 0.1)
    expected = logits(theirs, tokens)
    theirs.save_pretrained(folder)
    return expected


def plain_llama(layers=2):
    return tiny_llama(attention_bias=False, num_hidden_layers=layers)


@pytest.mark.parametrize("case", SHARED)
def test_both_directions(case, tokens, tmp_path):
    name, config = SHARED[case]
    layers = 2 if "prefix" in case or "patterns" in case else 1
    expected = saved_by_peft(plain_llama(layers), config, tmp_path / "theirs", tokens)
    model = plain_llama(layers)
    before = logits(model, tokens)
    handle = load_peft(model, tmp_path / "theirs")
    assert handle.adapter.name == name
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-5, atol=1e-5)
    assert (expected - before).abs().max() > 1e-3

    handle.save(tmp_path / "ours")
    again = plain_llama(layers)
    adapterlab.load(again, tmp_path / "ours")
    torch.testing.assert_close(logits(again, tokens), expected, rtol=1e-5, atol=1e-5)

    if case in ONE_WAY:
        return
    save_peft(handle, tmp_path / "back", "the-base")
    back = peft.PeftModel.from_pretrained(plain_llama(layers), str(tmp_path / "back"))
    torch.testing.assert_close(logits(back, tokens), expected, rtol=1e-5, atol=1e-5)


def test_every_method_that_peft_has_is_read():
    methods = SHIPPED
    read = {name for name, method in methods.items() if method.peft_kinds}
    written = {name for name, method in methods.items() if method.peft_layout is not Adapter.peft_layout}
    assert read == {name for name, _ in SHARED.values()} | {"oftv2"}
    # Prefix tuning: only the output of its network is in PEFT's file, read as `ptuning_v2`. FRoD refuses with a reason.
    assert written - read == {"prefix", "frod"}
    # These are written as a LoRA: PEFT draws FourierFT's entries itself, and decomposes PSOFT's weights itself.
    assert read - written == {"fourierft", "psoft"}


@pytest.mark.parametrize("name", ON_GPT2)
def test_gpt2s_transposed_layers(name, tokens, tmp_path):
    expected = saved_by_peft(tiny_gpt2(), ON_GPT2[name], tmp_path, tokens)
    model = tiny_gpt2()
    assert load_peft(model, tmp_path).adapter.name == name
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_biases_go_with_the_rest_of_the_answer(bias, tokens, tmp_path):
    for name in ("ia3", "road", "boft", "oftv2", "dora"):
        models = [tiny_llama(attention_bias=bias) for _ in range(2)]
        for model in models:
            noisy(p for key, p in model.named_parameters() if key.endswith("bias"))
        expected = saved_by_peft(models[0], SHARED[name][1], tmp_path / name, tokens)
        load_peft(models[1], tmp_path / name)
        torch.testing.assert_close(logits(models[1], tokens), expected, rtol=1e-5, atol=1e-5)


def classifier(labels=3, **changes):
    torch.manual_seed(0)
    config = LlamaConfig(**tiny_llama().config.to_diff_dict() | {"num_labels": labels, "pad_token_id": 0} | changes)
    return LlamaForSequenceClassification(config).eval()


def test_modules_saved_whole_become_new_heads(tokens, tmp_path):
    config = lora(r=3, task_type="SEQ_CLS")
    theirs = peft.get_peft_model(classifier(), config).eval()
    noisy([p for p in theirs.parameters() if p.requires_grad], 0.1)
    theirs.save_pretrained(tmp_path / "theirs")
    model = classifier()
    before = model.score.weight.detach().clone()
    handle = load_peft(model, tmp_path / "theirs")
    assert list(handle.new_heads) == ["score.weight"]
    torch.testing.assert_close(model(tokens).logits, theirs(tokens).logits, rtol=1e-5, atol=1e-5)
    save_peft(handle, tmp_path / "back", "the-base", "SEQ_CLS")
    back = peft.PeftModel.from_pretrained(classifier(), str(tmp_path / "back")).eval()
    torch.testing.assert_close(back(tokens).logits, theirs(tokens).logits, rtol=1e-5, atol=1e-5)
    handle.detach()
    assert torch.equal(model.score.weight, before)
    with pytest.raises(CannotLoadError, match=r"score.weight \(3, 32\).*the same num_labels"):
        load_peft(classifier(labels=2), tmp_path / "theirs")


def test_a_tied_head_saved_whole_is_refused(tokens, tmp_path):
    saved_by_peft(tiny_llama(tie_word_embeddings=True), lora(r=3, modules_to_save=["lm_head"]), tmp_path, tokens)
    with pytest.raises(CannotLoadError, match=r"modules_to_save: lm_head.weight is tied"):
        load_peft(tiny_llama(), tmp_path)
    saved_by_peft(tiny_llama(tie_word_embeddings=False), lora(r=3, modules_to_save=["lm_head"]), tmp_path, tokens)
    handle = load_peft(tiny_llama(tie_word_embeddings=False), tmp_path)
    assert list(handle.new_heads) == ["lm_head.weight"]


def test_the_end_of_a_modules_path_decides_what_peft_saves_whole(tokens, tmp_path):
    expected = saved_by_peft(plain_llama(), lora(r=3, modules_to_save=["norm"]), tmp_path, tokens)
    model = plain_llama()
    handle = load_peft(model, tmp_path)
    assert len(handle.trained_too) == 5
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-5, atol=1e-5)
    handle.save(tmp_path / "ours")
    again = plain_llama()
    adapterlab.load(again, tmp_path / "ours")
    torch.testing.assert_close(logits(again, tokens), expected, rtol=1e-5, atol=1e-5)


def test_a_pruned_adalora(tokens, tmp_path):
    """PEFT keeps other ranks in every layer, in some none."""
    theirs = peft.get_peft_model(plain_llama(), dataclasses.replace(SHARED["adalora"][1]))
    noisy([p for p in theirs.parameters() if p.requires_grad], 0.1)
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=1e-2)
    for step in range(14):
        theirs(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        theirs.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    theirs.save_pretrained(tmp_path)
    kept = [
        sum(chosen) for chosen in json.loads((tmp_path / "adapter_config.json").read_text())["rank_pattern"].values()
    ]
    assert len(set(kept)) > 1
    model = plain_llama()
    load_peft(model, tmp_path)
    torch.testing.assert_close(logits(model, tokens), logits(theirs, tokens), rtol=1e-5, atol=1e-5)


@pytest.fixture
def folder(tmp_path, tokens):
    """A plain LoRA of PEFT."""
    saved_by_peft(plain_llama(), lora(r=3), tmp_path, tokens)
    return tmp_path


def changed(folder: Path, **settings) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def test_a_variant_that_is_not_here_is_named(folder):
    for setting in ({"bias": "all"}, {"lora_bias": True}, {"init_lora_weights": "loftq"}, {"use_qalora": True}):
        stored = json.loads((folder / "adapter_config.json").read_text())
        (name,) = setting
        with pytest.raises(CannotLoadError, match=f"{name}=.*merge the adapter with PEFT"):
            load_peft(plain_llama(), changed(folder, **setting))
        changed(folder, **stored)
    with pytest.raises(CannotLoadError, match=r"does not have PEFT's method WAVEFT; it reads ADALORA, BOFT"):
        load_peft(plain_llama(), changed(folder, peft_type="WAVEFT"))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"bias": "all"}, "bias='all'"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"trainable_token_indices": [1, 2]}, r"trainable_token_indices=\[1, 2\]"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "its layers cannot be adapted here: model.embed_tokens"),
        ({"r": 20}, "rank 20 does not fit"),
    ],
)
def test_what_peft_trains_beside_the_method_is_named(settings, named, tokens, tmp_path):
    saved_by_peft(tiny_llama(), dataclasses.replace(lora(r=3), **settings), tmp_path, tokens)
    with pytest.raises(CannotLoadError, match=f"{re.escape(str(tmp_path))} cannot be loaded: .*{named}"):
        load_peft(tiny_llama(), tmp_path)


def test_dropout_that_the_method_lacks_is_said(tokens, tmp_path):
    saved_by_peft(plain_llama(), lora(r=3, use_dora=True, lora_dropout=0.1), tmp_path / "dora", tokens)
    with pytest.warns(UserWarning, match=r"lora_dropout=0.1 is not loaded"):
        load_peft(plain_llama(), tmp_path / "dora")
    saved_by_peft(plain_llama(), lora(r=3, lora_dropout=0.1), tmp_path / "lora", tokens)
    assert load_peft(plain_llama(), tmp_path / "lora").adapter.dropout == 0.1


def test_a_tensor_that_nothing_reads_is_named(folder):
    file = folder / "adapter_model.safetensors"
    stored = load_file(file)
    save_file(stored | {"base_model.model.model.layers.0.self_attn.q_proj.strange": torch.zeros(1)}, file)
    with pytest.raises(CannotLoadError, match=r"nothing reads model.layers.0.self_attn.q_proj.strange"):
        load_peft(plain_llama(), folder)
    save_file(stored | {"base_model.model.model.embed_tokens.weight": torch.zeros(64, 32)}, file)
    with pytest.raises(AdapterlabError, match=r"model.embed_tokens"):
        load_peft(plain_llama(), folder)
    save_file({key: t for key, t in stored.items() if "q_proj.lora_B" not in key}, file)
    with pytest.raises(CannotLoadError, match=r"it has no lora_B.weight at model.layers.0.self_attn.q_proj"):
        load_peft(plain_llama(), folder)


def test_another_model_is_named(folder):
    model = plain_llama()
    model.load_state_dict(before := {key: t.clone() for key, t in model.state_dict().items()})
    with pytest.raises(CannotLoadError, match=r"made for another model: at model.layers.0.self_attn.q_proj it has a"):
        load_peft(tiny_llama(attention_bias=False, hidden_size=64), folder)
    with pytest.raises(CannotLoadError, match="none of its tensors belongs to a layer of this model"):
        load_peft(tiny_gpt2(), folder)
    load_peft(model, folder)
    with pytest.raises(AdapterlabError, match="named 'default' is attached already"):
        load_peft(model, folder)
    assert all(torch.equal(before[key], t) for key, t in model.state_dict().items() if key in before)


def test_other_layers_than_here_are_named(tokens, tmp_path):
    deeper = tiny_llama(attention_bias=False, num_hidden_layers=3)
    saved_by_peft(deeper, SHARED["prefix"][1], tmp_path / "prefix", tokens)
    with pytest.raises(
        CannotLoadError, match="prompt_embeddings has 96 columns, and the 2 layers of this model take 64"
    ):
        load_peft(plain_llama(), tmp_path / "prefix")


def test_some_of_the_norms(tokens, tmp_path):
    config = peft.LNTuningConfig(target_modules=["input_layernorm"])
    expected = saved_by_peft(plain_llama(), config, tmp_path, tokens)
    model = plain_llama()
    assert all("input_layernorm" in path for path in load_peft(model, tmp_path).sites)
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-5, atol=1e-5)


def test_files_that_cannot_be_read_are_named(folder):
    file = folder / "adapter_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:100])
    with pytest.raises(AdapterlabError, match=r"adapter_model.safetensors is damaged"):
        load_peft(plain_llama(), folder)
    file.rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterlabError, match=r"adapter_model.bin is a pickle, which can run code"):
        load_peft(plain_llama(), folder)
    file.write_bytes(content)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(AdapterlabError, match=r"adapter_config.json is damaged"):
        load_peft(plain_llama(), folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterlabError, match=r"adapter_config.json does not exist: is"):
        load_peft(plain_llama(), folder)


def test_a_loaded_adapter_trains(folder, tokens):
    model = plain_llama()
    handle = load_peft(model, folder)
    optimizer = torch.optim.SGD(handle.parameters(), lr=1.0)
    losses = []
    for _ in range(3):
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not any(p.requires_grad for name, p in model.named_parameters() if "adapterlab" not in name)


def test_a_quantized_base(folder, tokens):
    tiny_llama(attention_bias=False, hidden_size=64, intermediate_size=64).save_pretrained(folder / "base")
    config = BitsAndBytesConfig(load_in_4bit=True)
    models = [
        AutoModelForCausalLM.from_pretrained(folder / "base", quantization_config=config, device_map="cpu")
        for _ in range(2)
    ]
    expected = saved_by_peft(models[0], lora(r=3), folder, tokens)
    load_peft(models[1], folder)
    torch.testing.assert_close(logits(models[1], tokens), expected, rtol=1e-4, atol=1e-4)
