"""Modules trained beside an adapter: heads are found, trained, saved, restored and exported as PEFT's modules to save."""

from __future__ import annotations

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

import adapterlab
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery import parameter_count
from adapterlab.surgery.export.peft_export import save_peft
from adapterlab.surgery.model.trained_modules import head_modules
from tests.adapters.methods import noisy, small
from tests.conftest import tiny_llama
from tests.surgery.test_attach import bits, same_bits

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}


def made(kind, config):
    def make(seed=0):
        torch.manual_seed(seed)
        return kind(config).eval()

    return make


bert = made(BertForSequenceClassification, BertConfig(**SHAPE))
tagger = made(BertForTokenClassification, BertConfig(**SHAPE, num_labels=5))
reader = made(BertForQuestionAnswering, BertConfig(**SHAPE))
roberta = made(RobertaForSequenceClassification, RobertaConfig(**SHAPE, num_labels=3))
llama_classifier = made(LlamaForSequenceClassification, LlamaConfig(**SHAPE, num_labels=3))
gpt2_classifier = made(
    GPT2ForSequenceClassification, GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, pad_token_id=0)
)
distilbert = made(DistilBertForSequenceClassification, DistilBertConfig(vocab_size=64, dim=32, n_layers=1, n_heads=4))
vit = made(
    ViTForImageClassification, ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, image_size=32)
)

HEADS = [
    (bert, TaskType.SEQ_CLS, ["classifier"]),
    (tagger, TaskType.TOKEN_CLS, ["classifier"]),
    (reader, TaskType.QUESTION_ANS, ["qa_outputs"]),
    (roberta, TaskType.SEQ_CLS, ["classifier"]),
    (llama_classifier, TaskType.SEQ_CLS, ["score"]),
    (gpt2_classifier, TaskType.SEQ_CLS, ["score"]),
]


def lora():
    return adapterlab.adapter("lora", rank=8)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize(("make", "task", "heads"), HEADS)
def test_the_heads_are_those_that_peft_trains_for_the_task(make, task, heads):
    model = make()
    handle = adapterlab.attach(model, lora())
    assert head_modules(model) == heads
    # PEFT's own "all-linear" adapts the heads of the other tasks, and then fails to train them too.
    targets = "all-linear" if task == TaskType.SEQ_CLS else list(handle.sites)
    theirs = get_peft_model(make(), LoraConfig(r=8, target_modules=targets, task_type=task))
    trained = {
        name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        for name, p in theirs.named_parameters()
        if p.requires_grad and "lora_" not in name
    }
    assert set(handle.trained_too) == trained
    assert all(p.requires_grad for p in handle.trained_too.values())
    adapted = {name.rpartition(".lora_A")[0] for name, _ in theirs.named_parameters() if "lora_A" in name}
    assert set(handle.sites) == {name.removeprefix("base_model.model.") for name in adapted}
    assert handle.parameter_count == parameter_count(make(), lora())


def test_heads_of_several_modules_are_whole():
    assert head_modules(distilbert()) == ["pre_classifier", "classifier"]
    assert head_modules(vit()) == ["classifier"]
    assert set(adapterlab.attach(distilbert(), small("lora")).trained_too) == {
        f"{name}.{part}" for name in ("pre_classifier", "classifier") for part in ("weight", "bias")
    }


def test_a_language_model_has_no_task_head():
    model = made(BertForMaskedLM, BertConfig(**SHAPE))()
    assert head_modules(model) == head_modules(tiny_llama()) == []
    assert adapterlab.attach(model, small("lora")).trained_too == {}


@pytest.mark.parametrize("name", ["bitfit", "ia3", "full_ft"])
def test_a_head_is_not_adapted_too(name):
    handle = adapterlab.attach(bert(), adapterlab.adapter(name))
    assert not any("classifier" in path for path in handle.sites)
    assert [p for p in handle.parameters() if any(p is q for q in handle.trained_too.values())]


def test_no_head_is_trained_if_none_is_named():
    model = bert()
    handle = adapterlab.attach(model, lora(), trained_too=())
    assert handle.trained_too == {}
    assert not model.classifier.weight.requires_grad
    assert not any("classifier" in path for path in handle.sites)


def test_a_head_as_target_is_named():
    with pytest.raises(AdapterlabError, match="'classifier' is classifier, a task head: train it with trained_too"):
        adapterlab.attach(bert(), small("lora"), targets="classifier")


def trained(model, handle, tokens):
    optimizer = torch.optim.Adam(handle.parameters(), lr=1e-2)
    for _ in range(3):
        model(input_ids=tokens, labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("make", [bert, llama_classifier])
def test_a_trained_head_is_saved_loaded_disabled_merged_and_restored(make, tmp_path, tokens):
    model = make()
    before, answer = bits(model), model(tokens).logits
    handle = adapterlab.attach(model, lora())
    assert torch.equal(model(tokens).logits, answer)
    head = next(iter(handle.trained_too.values()))
    start = head.detach().clone()
    trained(model, handle, tokens)
    assert not torch.equal(head, start)
    changed = model(tokens).logits
    with handle.disabled():
        assert torch.equal(model(tokens).logits, answer)
    assert torch.equal(model(tokens).logits, changed)
    handle.save(tmp_path)
    other = make()
    loaded = adapterlab.load(other, tmp_path)
    assert torch.equal(other(tokens).logits, changed)
    assert list(loaded.trained_too) == list(handle.trained_too)
    assert all(p.requires_grad for p in loaded.trained_too.values())
    handle.merge()
    torch.testing.assert_close(model(tokens).logits, changed)
    model.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(type(model).from_pretrained(tmp_path / "merged")(tokens).logits, changed)
    for attached in (handle, loaded):
        attached.detach()
        assert same_bits(before, bits(attached.model))
        assert all(p.requires_grad for p in attached.model.parameters())


@pytest.mark.parametrize(("make", "task", "heads"), [h for h in HEADS if h[1] == TaskType.SEQ_CLS])
def test_peft_loads_the_head_with_the_adapter(make, task, heads, tmp_path, tokens):
    model = make()
    handle = adapterlab.attach(model, lora())
    noisy(handle.parameters())
    save_peft(handle, tmp_path, base="base", task_type=task.value)
    theirs = PeftModel.from_pretrained(make(seed=0), tmp_path)
    assert set(theirs.peft_config["default"].modules_to_save) >= set(heads)
    torch.testing.assert_close(theirs(tokens).logits, model(tokens).logits, rtol=1e-5, atol=1e-5)
    assert isinstance(theirs.base_model.model.get_submodule(heads[0]), peft.utils.ModulesToSaveWrapper)


def test_the_gradients_of_a_head_are_pefts(tokens):
    """Both start at the base, so the first gradients of head and adapter are the same."""
    model, other = bert(), bert()
    handle = adapterlab.attach(model, adapterlab.adapter("lora", rank=8, alpha=8.0))
    theirs = get_peft_model(
        other, LoraConfig(r=8, lora_alpha=8, target_modules="all-linear", task_type="SEQ_CLS")
    ).eval()
    for m in (model, theirs):
        m(input_ids=tokens, labels=torch.tensor([0, 1])).loss.backward()
    gradient = theirs.base_model.model.classifier.modules_to_save["default"].weight.grad
    torch.testing.assert_close(handle.trained_too["classifier.weight"].grad, gradient)


def test_other_modules_are_trained_by_name(tokens):
    model = tiny_llama(tie_word_embeddings=False)
    before = bits(model)
    handle = adapterlab.attach(model, lora(), trained_too=["lm_head", "layers.1.mlp.down_proj"])
    assert list(handle.trained_too) == ["lm_head.weight", "model.layers.1.mlp.down_proj.weight"]
    assert "model.layers.1.mlp.down_proj" not in handle.sites
    assert "model.layers.0.mlp.down_proj" in handle.sites
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert all(p.grad is not None for p in handle.trained_too.values())
    noisy(handle.parameters())
    handle.detach()
    assert same_bits(before, bits(model))


def test_trained_modules_that_cannot_be_are_named(llama):
    with pytest.raises(
        AdapterlabError, match=r"lm_head\.weight is the same parameter as model\.embed_tokens\.weight \(tied\)"
    ):
        adapterlab.attach(llama, lora(), trained_too=["lm_head"])
    with pytest.raises(UnknownNameError, match="unknown module 'lm_hed' in trained_too: did you mean lm_head"):
        adapterlab.attach(llama, lora(), trained_too="lm_hed")
    with pytest.raises(AdapterlabError, match="is both in targets and in trained_too"):
        adapterlab.attach(llama, small("poly"), trained_too="q_proj")
    with pytest.raises(AdapterlabError, match="is both in targets and in trained_too"):
        adapterlab.attach(llama, lora(), targets="q_proj", trained_too="q_proj")
    assert not any("adapterlab" in name for name, _ in llama.named_modules())
    assert all(p.requires_grad for p in llama.parameters())


def test_another_number_of_labels_is_named(tmp_path):
    adapterlab.attach(bert(), lora()).save(tmp_path)
    other = made(BertForSequenceClassification, BertConfig(**SHAPE, num_labels=4))()
    with pytest.raises(AdapterlabError, match=r"holds classifier\.weight, \(2, 32\), which this model does not have"):
        adapterlab.load(other, tmp_path)


def test_a_copy_has_a_head_of_its_own(tokens):
    import copy

    model = bert()
    handle = adapterlab.attach(model, lora())
    other = copy.deepcopy(model)
    noisy(handle.parameters())
    assert not torch.equal(other(tokens).logits, model(tokens).logits)
