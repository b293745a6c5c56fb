"""TRL's trainers: DPO against the model without the adapter, SFT with pruning and checkpoints."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig, TrainerControl, TrainerState

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import load_causal
from tests.adapters.methods import noisy, small
from tests.conftest import tiny_llama

trl = pytest.importorskip("trl")

PAIRS = [{"prompt": f"{i} + {i} is", "chosen": f" {i + i}", "rejected": f" {i + 3}, or so"} for i in range(2, 10)]
QUIET = {
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "bf16": False,
    "seed": 3,
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_causal().tokenizer


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    """A folder with a tiny base, so that TRL can load it again by its name."""
    folder = tmp_path_factory.mktemp("base")
    tiny_llama(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def model(base):
    return AutoModelForCausalLM.from_pretrained(base)


@pytest.fixture
def dpo(tmp_path, tokenizer):
    def make(model, handle=None, **settings):
        extra = {key: settings.pop(key) for key in ("ref_model", "callbacks") if key in settings}
        if handle is not None:
            extra.setdefault("callbacks", [adapterlab.TrainerCallback(handle)])
        defaults = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 0.0, "logging_steps": 1}
        args = trl.DPOConfig(str(tmp_path / "dpo"), save_strategy="no", **(defaults | QUIET | settings))
        return trl.DPOTrainer(
            model, args=args, train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer, **extra
        )

    return make


def losses(trainer):
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def merged_sft(model):
    sft = adapterlab.attach(model, adapterlab.adapter("lora", rank=2), name="sft").requires_grad_(False)
    noisy(sft.parameters(), 0.3)
    sft.merge()
    return adapterlab.attach(model, adapterlab.adapter("lora", rank=2), name="dpo")


def stacked_sft(model):
    sft = adapterlab.attach(model, adapterlab.adapter("lora", rank=2), name="sft").requires_grad_(False)
    noisy(sft.parameters(), 0.3)
    return adapterlab.attach(model, adapterlab.adapter("lora", rank=2), name="dpo")


def plain(model):
    return adapterlab.attach(model, adapterlab.adapter("lora", rank=2))


LOG_2 = pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("prepare", [plain, merged_sft, stacked_sft])
@pytest.mark.parametrize("precompute", [False, True])
def test_at_rate_zero_the_loss_is_log_2(prepare, precompute, model, dpo):
    handle = prepare(model)
    assert losses(dpo(model, handle, ref_model=handle.reference(), precompute_ref_log_probs=precompute)) == [LOG_2] * 2


def test_trls_own_reference_after_a_merge_would_be_wrong_and_is_refused(model, dpo):
    handle = merged_sft(model)
    wrong = losses(dpo(model))
    assert abs(wrong[0] - math.log(2)) > 0.005
    with pytest.raises(AdapterlabError, match=r"DPO would not take the model without this adapter .*ref_model=handle"):
        dpo(model, handle).train()


def test_without_a_reference_precomputed_log_probabilities_are_right_at_the_start(model, dpo):
    handle = merged_sft(model)
    assert losses(dpo(model, handle, precompute_ref_log_probs=True)) == [LOG_2] * 2


@pytest.mark.parametrize("precompute", [False, True])
def test_the_reference_of_an_adapter_that_does_not_start_as_the_base_is_the_base(precompute, model, dpo):
    """The loss is what two models in memory give: one with the prompt, one without."""
    handle = adapterlab.attach(model, small("prompt"))
    first = losses(dpo(model, handle, ref_model=handle.reference(), precompute_ref_log_probs=precompute))
    assert abs(first[0] - math.log(2)) > 1e-4
    other = tiny_llama(vocab_size=model.config.vocab_size)
    expected = losses(dpo(model, ref_model=other, precompute_ref_log_probs=precompute))
    assert first == pytest.approx(expected, abs=1e-5)
    with pytest.raises(AdapterlabError, match="keep the start of prompt"):
        dpo(model, handle=adapterlab_again(model, handle), precompute_ref_log_probs=True).train()


def adapterlab_again(model, handle):
    handle.detach()
    return adapterlab.attach(model, small("prompt"))


def test_dpo_trains_the_adapter_and_leaves_the_reference(model, dpo):
    handle = stacked_sft(model)
    reference = handle.reference()
    tokens = torch.arange(10)[None]
    before = reference(tokens).logits
    found = losses(dpo(model, handle, ref_model=reference, learning_rate=1e-2, max_steps=4))
    assert found[0] == LOG_2
    assert found[-1] < found[0]
    torch.testing.assert_close(reference(tokens).logits, before)
    assert not torch.allclose(model.eval()(tokens).logits, before, atol=1e-4)


def test_a_reference_model_of_the_users_own_is_used(model, dpo):
    handle = plain(model)
    callbacks = [adapterlab.TrainerCallback(handle, own_reference=True)]
    other = tiny_llama(seed=5, vocab_size=model.config.vocab_size)
    assert abs(losses(dpo(model, ref_model=other, callbacks=callbacks))[0] - math.log(2)) > 1e-4


@pytest.mark.parametrize("config", [trl.GRPOConfig, trl.RLOOConfig])
def test_trainers_that_take_no_reference_model_are_named(config, model, tmp_path):
    handle = plain(model)
    callback = adapterlab.TrainerCallback(handle)
    for beta, refused in ((0.1, True), (0.0, False)):
        args = config(str(tmp_path), beta=beta, **QUIET)
        message = r"would not take .*trainer\.ref_model = handle\.reference\(\)"
        with pytest.raises(AdapterlabError, match=message) if refused else nullcontext():
            callback.on_train_begin(args, TrainerState(max_steps=1), TrainerControl())


def test_a_synced_reference_is_refused(model, dpo):
    handle = plain(model)
    with pytest.raises(AdapterlabError, match="sync_ref_model=True needs a second model"):
        dpo(model, handle, ref_model=handle.reference(), sync_ref_model=True).train()


def test_the_reference_is_in_evaluation_mode_and_shares_the_weights(model):
    handle = adapterlab.attach(model, adapterlab.adapter("lora", rank=2, dropout=0.5))
    noisy(handle.parameters())
    reference, tokens = handle.reference(), torch.arange(10)[None]
    model.train()
    with handle.disabled():
        base = model(tokens).logits
    assert torch.equal(reference(tokens).logits, base)
    assert model.training
    assert all(part.training for part in model.modules())
    assert {id(p) for p in reference.parameters()} == {id(p) for p in model.parameters()}
    assert not torch.equal(model(tokens).logits, base)
    with pytest.raises(ValueError, match="exactly one of input_ids"):
        reference()
    assert not torch.equal(model(tokens).logits, base)


@pytest.fixture
def sft(tmp_path, tokenizer):
    def make(model, name="sft", callbacks=(), **settings):
        defaults = {"max_steps": 6, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "save_steps": 3}
        args = trl.SFTConfig(str(tmp_path / name), max_length=16, **(defaults | QUIET | settings))
        rows = Dataset.from_list([{"text": pair["prompt"] + pair["chosen"]} for pair in PAIRS])
        return trl.SFTTrainer(
            model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=list(callbacks)
        )

    return make


def test_sft_prunes_resumes_and_saves_the_adapter_alone(base, sft, tmp_path):
    method = adapterlab.adapter("adalora", rank=4, keep=0.5, total_steps=6, warmup_steps=1, final_steps=2)
    finished = []
    for resume in (None, str(tmp_path / "sft/checkpoint-3")):
        model = AutoModelForCausalLM.from_pretrained(base)
        handle = adapterlab.attach(model, method)
        sft(model, callbacks=[adapterlab.TrainerCallback(handle)]).train(resume_from_checkpoint=resume)
        finished.append(load_file(tmp_path / "sft/checkpoint-6/adapter.safetensors"))
        values = torch.cat([site.state["values"] for site in handle.sites.values()])
        assert (values == 0).sum() == len(values) // 2
    assert finished[0].keys() == finished[1].keys()
    assert all(torch.equal(finished[0][key], finished[1][key]) for key in finished[0])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("kind", "method"), [("nf4", "dora"), ("int8", "lora"), ("torchao", "dora")])
def test_sft_on_a_quantized_base_trains_and_saves_the_adapter(kind, method, base, sft, tmp_path):
    torchao = pytest.importorskip("torchao.quantization")
    pytest.importorskip("bitsandbytes")
    configs = {
        "nf4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        "int8": BitsAndBytesConfig(load_in_8bit=True),
        "torchao": TorchAoConfig(torchao.Int8WeightOnlyConfig()),
    }

    def loaded():
        settings = {"device_map": {"": "cpu"}, "dtype": torch.float32}
        return AutoModelForCausalLM.from_pretrained(base, quantization_config=configs[kind], **settings)

    with pytest.raises(ValueError, match="purely quantized models"):
        sft(loaded(), "plain")
    model = loaded()
    handle = adapterlab.attach(model, small(method))
    run = sft(model, callbacks=[adapterlab.TrainerCallback(handle)], logging_steps=1, learning_rate=5e-2)
    run.train()
    found = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert found[-1] < found[0] - 0.02
    other = loaded()
    adapterlab.load(other, tmp_path / "sft/checkpoint-6")
    tokens = torch.arange(10)[None]
    torch.testing.assert_close(other(tokens).logits, model.eval()(tokens).logits)
    handle.detach()
    assert "_hf_peft_config_loaded" not in vars(model)


def test_grpo_measures_its_kl_from_the_model_without_the_adapter(model, tokenizer, tmp_path):
    handle = merged_sft(model)
    args = trl.GRPOConfig(
        str(tmp_path),
        beta=0.1,
        max_steps=1,
        learning_rate=0.0,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=4,
        logging_steps=1,
        save_strategy="no",
        **QUIET,
    )
    kl = []
    for own in (False, True):
        trainer = trl.GRPOTrainer(
            model,
            args=args,
            reward_funcs=lambda completions, **_: [float(len(text)) for text in completions],
            train_dataset=Dataset.from_list([{"prompt": pair["prompt"]} for pair in PAIRS]),
            processing_class=tokenizer,
            callbacks=[adapterlab.TrainerCallback(handle, own_reference=not own)],
        )
        if own:
            trainer.ref_model = handle.reference()
        trainer.train()
        kl += [entry["kl"] for entry in trainer.state.log_history if "kl" in entry]
    assert kl[0] > 1e-4  # TRL's own reference lacks what is merged
    assert kl[1] == pytest.approx(0, abs=1e-7)
