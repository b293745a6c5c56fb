"""Checkpoints of Trainer hold the adapter alone, resume bit for bit, and never load as the bare base."""

from __future__ import annotations

import copy
import io
import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BertConfig, BertForSequenceClassification, LlamaForCausalLM

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.trainer.methods import handles_on
from tests.adapters.methods import ALL, noisy, small
from tests.conftest import tiny_llama
from tests.surgery.trainer.conftest import ROWS

METHODS = {
    "lora": adapterlab.adapter("lora", rank=2, dropout=0.2),
    "adalora": adapterlab.adapter("adalora", rank=4, keep=0.5, total_steps=60, warmup_steps=10, final_steps=20),
    "vera": small("vera"),
    "svft": small("svft"),
    "vblora": small("vblora"),
    "prompt": small("prompt"),
}


def attached(method):
    model = tiny_llama()
    handle = adapterlab.attach(model, method)
    return model, handle, adapterlab.TrainerCallback(handle)


def rates(handle):
    return lambda args: adapterlab.optimizer_for(handle, args)


def state_of(handle):
    return {f"{path}/{k}": v.clone() for path, site in handle.sites.items() for k, v in site.state_dict().items()}


def test_a_checkpoint_holds_the_adapter_alone(trainer, tmp_path):
    model, handle, _ = attached(METHODS["lora"])
    run = trainer(model, save_strategy="steps", save_steps=3)
    run.train()
    run.save_model()
    for folder in (tmp_path / "run/checkpoint-3", tmp_path / "run"):
        files = {path.name for path in folder.iterdir()}
        assert files >= {"adapter.json", "adapter.safetensors", "README.md", "training_args.bin"}
        assert "config.json" not in files
        assert (folder / "model.safetensors").samefile(folder / "adapter.safetensors")
        tensors = load_file(folder / "model.safetensors")
        held = sum(t.numel() for name, t in tensors.items() if name != "base.fingerprint")
        assert held == handle.parameter_count
        with pytest.raises(ValueError, match="Unrecognized model"):
            AutoModelForCausalLM.from_pretrained(folder)
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= {
        path.name for path in (tmp_path / "run/checkpoint-3").iterdir()
    }
    other = tiny_llama()
    adapterlab.load(other, tmp_path / "run")
    tokens = ROWS[0]["input_ids"][None]
    assert torch.equal(other(tokens).logits, model.eval()(tokens).logits)


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(name, trainer, tmp_path, caplog):
    model, handle, callback = attached(METHODS[name])
    settings = {"save_strategy": "steps", "save_steps": 3}
    trainer(model, "whole", callbacks=[callback], optimizer=rates(handle), **settings).train()
    whole = state_of(handle)

    model, handle, callback = attached(METHODS[name])
    shutil.copytree(tmp_path / "whole/checkpoint-3", tmp_path / "resumed/checkpoint-3")
    run = trainer(model, "resumed", callbacks=[callback], optimizer=rates(handle), **settings)
    run.train(resume_from_checkpoint=True)
    resumed = state_of(handle)
    assert run.state.global_step == 6
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert "missing keys" not in caplog.text


def test_a_resumed_training_did_move(trainer, tmp_path):
    """The comparison above would pass if nothing was trained after the checkpoint."""
    model, _, callback = attached(METHODS["lora"])
    trainer(model, callbacks=[callback], save_strategy="steps", save_steps=3).train()
    early, late = (load_file(tmp_path / f"run/checkpoint-{n}/adapter.safetensors") for n in (3, 6))
    assert not any(torch.equal(early[key], late[key]) for key in early.keys() - {"base.fingerprint"})


def test_the_best_model_is_restored(trainer, tmp_path, caplog):
    model, handle, _ = attached(METHODS["lora"])
    run = trainer(
        model,
        eval_rows=ROWS[:4],
        learning_rate=2.0,
        save_strategy="steps",
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        save_only_model=True,
    )
    run.train()
    best = run.state.best_model_checkpoint
    assert best == str(tmp_path / "run/checkpoint-4")  # not the last
    saved = load_file(f"{best}/adapter.safetensors")
    assert all(torch.equal(tensor, saved[key]) for key, tensor in state_of(handle).items())
    assert "missing keys" not in caplog.text


def test_a_checkpoint_of_another_adapter_is_named(trainer, tmp_path):
    model, _, _ = attached(METHODS["lora"])
    trainer(model, save_strategy="steps", save_steps=3).train()
    for method, found in ((adapterlab.adapter("lora", rank=4), r"\(2, 32\)"), (METHODS["vera"], "nothing")):
        other, handle, _ = attached(method)
        before = state_of(handle)
        with pytest.raises(AdapterlabError, match=f"of another adapter: at .* holds {found}"):
            trainer(other, save_strategy="no").train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-3"))
        assert all(torch.equal(tensor, before[key]) for key, tensor in state_of(handle).items())


@pytest.mark.parametrize("name", ["lora", "svft"])
def test_a_checkpoint_of_another_base_is_refused_in_one_line(name, trainer, tmp_path):
    model, _, callback = attached(METHODS[name])
    trainer(model, callbacks=[callback], save_strategy="steps", save_steps=3).train()
    other = tiny_llama(seed=1)
    handle = adapterlab.attach(other, METHODS[name])
    before = state_of(handle)
    run = trainer(other, "other", callbacks=[adapterlab.TrainerCallback(handle)])
    with pytest.raises(AdapterlabError, match="the checkpoint was made on another base: ") as found:
        run.train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-3"))
    assert "\n" not in str(found.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in state_of(handle).items())


def checkpoint(tmp_path):
    """The tensors of a checkpoint of LoRA, and a model to resume on."""
    model, _, _ = attached(METHODS["lora"])
    model.save_pretrained(tmp_path)
    return load_file(tmp_path / "model.safetensors"), attached(METHODS["lora"])[0]


def test_the_same_base_in_bfloat16_is_no_other(tmp_path):
    tensors, _ = checkpoint(tmp_path)
    model = tiny_llama().bfloat16()
    adapterlab.attach(model, METHODS["lora"])
    model.load_state_dict(tensors)


def test_a_checkpoint_without_a_fingerprint_is_resumed_with_a_warning(tmp_path):
    tensors, model = checkpoint(tmp_path)
    del tensors["base.fingerprint"]
    with pytest.warns(UserWarning, match="has no fingerprint of the base"):
        model.load_state_dict(tensors)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"[1]", b'{"model.norm.weight": 3}', b'{"a": "b"}'])
def test_a_damaged_fingerprint_is_refused_in_one_line(content, tmp_path):
    tensors, model = checkpoint(tmp_path)
    tensors["base.fingerprint"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    with pytest.raises(AdapterlabError, match=r"the checkpoint (is damaged|was made on another base)") as found:
        model.load_state_dict(tensors)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ALL)
def test_every_method_is_restored_from_its_file(name, tmp_path, tokens):
    model = tiny_llama()
    handle = adapterlab.attach(model, small(name))
    noisy(handle.parameters())
    handle.steps_taken = 1  # as after a training with the callback
    expected = model(tokens).logits
    model.save_pretrained(tmp_path)
    other = tiny_llama()
    adapterlab.attach(other, small(name), seed=1 if not any(s.state.derived for s in handle.sites.values()) else 0)
    keys = other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    assert not keys.missing_keys
    assert not keys.unexpected_keys
    assert torch.equal(other(tokens).logits, expected)


def test_a_whole_state_is_loaded_as_before(llama):
    adapterlab.attach(llama, METHODS["lora"])
    state = {key: tensor.clone() for key, tensor in llama.state_dict().items()}
    state["model.norm.weight"] += 1
    keys = llama.load_state_dict(state)
    assert not keys.missing_keys
    assert torch.equal(llama.model.norm.weight, state["model.norm.weight"])


def test_detaching_puts_the_models_own_methods_back(llama, tmp_path):
    before = dict(vars(llama))
    first = adapterlab.attach(llama, METHODS["lora"], name="first")
    second = adapterlab.attach(llama.requires_grad_(False), adapterlab.adapter("ia3"), name="second")
    assert handles_on(llama) == [first, second]
    first.detach()
    assert handles_on(llama) == [second]
    second.detach()
    assert vars(llama).keys() == before.keys()
    llama.save_pretrained(tmp_path)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)) is LlamaForCausalLM


def test_a_method_that_another_library_set_is_put_back(llama):
    def own(*args, **kwargs):
        return None

    vars(llama)["save_pretrained"] = own
    adapterlab.attach(llama, METHODS["lora"]).detach()
    assert vars(llama)["save_pretrained"] is own


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_torch(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle, by_torch])
def test_a_copy_of_the_model_saves_its_own_adapter(duplicate, tmp_path, tokens):
    model, _, _ = attached(METHODS["lora"])
    other = duplicate(model)
    (handle,) = handles_on(other)
    assert handle.model is other
    noisy(handle.parameters())
    other.save_pretrained(tmp_path)
    loaded = tiny_llama()
    adapterlab.load(loaded, tmp_path)
    assert torch.equal(loaded(tokens).logits, other.eval()(tokens).logits)
    assert not torch.equal(loaded(tokens).logits, model.eval()(tokens).logits)
    handle.detach()
    assert not handles_on(other)
    assert len(handles_on(model)) == 1


def test_stacked_adapters_are_saved_together_and_the_upper_one_names_the_lower(tmp_path, tokens):
    model = tiny_llama()
    lower = adapterlab.attach(model, METHODS["lora"], name="sft").requires_grad_(False)
    upper = adapterlab.attach(model, adapterlab.adapter("ia3"), name="dpo")
    noisy([*lower.parameters(), *upper.parameters()])
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter.json").read_text())["below"] == ["0_sft"]
    with pytest.warns(UserWarning, match=r"trained on top of the adapter in .*0_sft: load that first"):
        adapterlab.load(tiny_llama(), tmp_path)
    other = tiny_llama()
    adapterlab.load(other, tmp_path / "0_sft", name="sft").requires_grad_(False)
    adapterlab.load(other, tmp_path, name="dpo")
    assert torch.equal(other(tokens).logits, model(tokens).logits)


def test_a_merged_model_is_saved_as_a_whole(tmp_path, tokens):
    model, handle, _ = attached(adapterlab.adapter("lora", rank=2))
    noisy(handle.parameters())
    handle.merge()
    model.save_pretrained(tmp_path)
    plain, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(plain(tokens).logits, model(tokens).logits)


def test_arguments_that_would_be_ignored_are_named(llama, tmp_path):
    adapterlab.attach(llama, METHODS["lora"])
    with pytest.raises(AdapterlabError, match=r"push_to_hub=True: call model\.push_to_hub"):
        llama.save_pretrained(tmp_path, push_to_hub=True)
    with pytest.raises(AdapterlabError, match="state_dict=: leave it out"):
        llama.save_pretrained(tmp_path, state_dict=llama.state_dict())


def refused(folder, message):
    with pytest.raises(AdapterlabError, match=message):
        adapterlab.load(tiny_llama(), folder)


def test_folders_of_others_are_named(trainer, tmp_path):
    from peft import LoraConfig, get_peft_model

    get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules="all-linear")).save_pretrained(tmp_path / "peft")
    refused(tmp_path / "peft", r"is a PEFT folder: use adapterlab\.load_peft")
    trainer(tiny_llama(), save_strategy="steps", save_steps=6).train()
    refused(tmp_path / "run/checkpoint-6", "is a Trainer checkpoint of the whole model: load it with from_pretrained")
    tiny_llama().save_pretrained(tmp_path / "whole")
    refused(tmp_path / "whole", "holds a whole model and no adapter")
    model, _, _ = attached(METHODS["lora"])
    trainer(model, "ours", save_strategy="steps", save_steps=3).train()
    refused(tmp_path / "ours", r"holds no adapter but checkpoints: load one of them, such as .*checkpoint-6")


def test_a_classifier_resumes_with_its_head(trainer, tmp_path):
    rows = [{"input_ids": row["input_ids"], "labels": i % 2} for i, row in enumerate(ROWS)]
    finished = []
    for resume in (None, str(tmp_path / "run/checkpoint-3")):
        torch.manual_seed(0)
        model = BertForSequenceClassification(
            BertConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
        )
        handle = adapterlab.attach(model, METHODS["lora"])
        trainer(model, rows=rows, save_strategy="steps", save_steps=3).train(resume_from_checkpoint=resume)
        finished.append([p.detach().clone() for p in handle.parameters()])
    assert all(torch.equal(whole, resumed) for whole, resumed in zip(*finished, strict=True))
    assert load_file(tmp_path / "run/checkpoint-6/adapter.safetensors").keys() >= {"trained_too/classifier.weight"}
    assert "`classifier.weight`" in (tmp_path / "run/checkpoint-6/README.md").read_text()
