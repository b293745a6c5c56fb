"""Methods of PEFT on a model: as PEFT trains them, and gone without a trace when they are detached."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import pytest
import torch
from peft import HiraConfig, LilyConfig, PeftModel, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import Tensor, nn
from transformers import LlamaForSequenceClassification

from adapterlab import adapter, attach, load
from adapterlab.adapters.peft_config import peft_types
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import parameter_count, sized
from adapterlab.surgery.export.peft_export import save_peft
from adapterlab.surgery.model.new_heads import mark_new_heads
from adapterlab.surgery.sites.graft import record
from tests.conftest import tiny_gpt2, tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft")  # PEFT's advice on the settings of single methods

TYPES = [name for name in peft_types() if name != "ADAMSS"]  # needs scikit-learn
SMALL: dict[str, dict[str, object]] = {
    "C3A": {"block_size": 4},
    "FOURIERFT": {"n_frequency": 20},
    "LORA": {"init_lora_weights": "pissa", "bias": "all"},  # changes weights of the base, and trains its biases
    "OFT": {"oft_block_size": 4},
    "OSF": {},
    "ROAD": {"group_size": 4},
    "TRAINABLE_TOKENS": {"token_indices": [3, 5]},
    "UNILORA": {},
    "VBLORA": {"num_vectors": 12, "vector_length": 4},
    "WAVEFT": {"n_frequency": 20},
}
SEED = 7


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(3))


LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
READS_LATER_TOKENS = {"LILY"}
"""Methods by which a token's logits depend on later tokens: Lily routes by the mean over all tokens of a batch."""
KNOWS_ITS_PLACES = {"BEFT", "LN_TUNING", "TRAINABLE_TOKENS"}


def settings_of(peft_type: str) -> dict[str, object]:
    fields = {f.name for f in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)])}
    small = {} if peft_type in ("OFT", "TINYLORA", "UNILORA") or "r" not in fields else {"r": 4}
    return small | SMALL.get(peft_type, {})


def train(model: nn.Module, tokens: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Three steps in training mode; what is random in them follows from a seed."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    torch.manual_seed(1)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    model.eval()


def as_peft_trains(peft_type: str, tokens: Tensor) -> Tensor:
    """Logits of PEFT's own model with the same config, start and steps."""
    targets = {} if peft_type in KNOWS_ITS_PLACES else {"target_modules": LLAMA}
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)](**settings_of(peft_type), **targets)
    model = tiny_llama()
    torch.manual_seed(SEED)
    wrapped = get_peft_model(model, config)
    train(wrapped, tokens, [p for p in wrapped.parameters() if p.requires_grad])
    return wrapped(input_ids=tokens).logits


@pytest.mark.parametrize("peft_type", TYPES)
def test_it_trains_as_in_peft_and_leaves_the_same_bits(peft_type, tokens, tmp_path):
    model, method = tiny_llama(), adapter(f"peft:{peft_type}", **settings_of(peft_type))
    weights = {name: t.clone() for name, t in model.state_dict().items()}
    config, base = model.config.to_dict(), model(tokens).logits
    count = parameter_count(model, method)
    assert torch.equal(model(tokens).logits, base)

    handle = attach(model, method, seed=SEED)
    start = model(tokens).logits
    assert handle.parameter_count == count
    train(model, tokens, handle.parameters())
    trained = model(tokens).logits
    assert not torch.equal(trained, start)
    assert torch.equal(trained, as_peft_trains(peft_type, tokens))

    other_end = torch.cat([tokens[:, :-1], tokens[:, -1:] - 1], 1)
    read = (model(other_end).logits - trained)[:, :-1].abs().max()
    assert (read > 1e-6) == (peft_type in READS_LATER_TOKENS)

    with handle.disabled():
        assert torch.equal(model(tokens).logits, base)
    handle.strength = 0.0
    assert torch.equal(model(tokens).logits, base)
    handle.strength = 1.0
    assert torch.equal(model(tokens).logits, trained)

    handle.save(tmp_path)
    opened = PeftModel.from_pretrained(tiny_llama(), tmp_path).eval()
    torch.testing.assert_close(opened(input_ids=tokens).logits, trained, atol=1e-6, rtol=0)
    other = tiny_llama()
    load(other, tmp_path)
    assert torch.equal(other(tokens).logits, trained)

    handle.detach()
    assert torch.equal(model(tokens).logits, base)
    after = model.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(after[name], t) for name, t in weights.items())
    assert model.config.to_dict() == config
    assert all(p.requires_grad for p in model.parameters())
    attach(model, adapter("lora", rank=2))  # nothing of PEFT is left that would stop it


SIZED = ["FOURIERFT", "GRALORA", "HIRA", "LILY", "RANDLORA", "SHIRA", "TINYLORA", "UNILORA"]


@pytest.mark.parametrize("peft_type", SIZED)
def test_the_largest_size_within_a_budget_is_found(peft_type):
    model, method = tiny_llama(), adapter(f"peft:{peft_type}", **settings_of(peft_type))
    budget = 5 * parameter_count(model, method) // 4
    found = sized(method, model, budget)
    assert parameter_count(model, found) <= budget
    sizes = found.sizes([(16, 32)])
    for larger in sizes[sizes.index(getattr(found, found.size_knob)) + 1 :][:1]:
        assert parameter_count(model, dataclasses.replace(found, **{found.size_knob: larger})) > budget


def test_the_count_is_peft_s_own():
    wrapped = get_peft_model(tiny_llama(), HiraConfig(r=4, target_modules=["q_proj"]))
    trains, _ = wrapped.get_nb_trainable_parameters()
    assert parameter_count(tiny_llama(), adapter("peft:HIRA", r=4), "q_proj") == trains


@pytest.mark.filterwarnings("error::UserWarning:peft")
def test_layers_stored_transposed_need_no_setting(tokens):
    model = tiny_gpt2()
    base = model(tokens).logits
    handle = attach(model, adapter("peft:LORA", r=2), "c_fc")
    assert [tuple(p.shape) for p in handle.parameters()] == [(2, 32), (128, 2)] * 2
    train(model, tokens, handle.parameters())
    assert not torch.equal(model(tokens).logits, base)
    handle.detach()
    assert torch.equal(model(tokens).logits, base)


def test_lily_shares_the_same_tensors_as_when_the_layers_are_named_by_their_endings():
    shared = get_peft_model(tiny_llama(), LilyConfig(r=4, target_modules=LLAMA)).get_nb_trainable_parameters()[0]
    assert parameter_count(tiny_llama(), adapter("peft:LILY", r=4)) == shared


def test_a_failure_leaves_the_model_as_it_was(tokens):
    model = tiny_llama()
    base = model(tokens).logits
    with pytest.raises(AdapterlabError, match=r"peft:C3A: PEFT cannot adapt LlamaForCausalLM: .* block size is 5"):
        attach(model, adapter("peft:C3A", block_size=5))
    assert torch.equal(model(tokens).logits, base)
    assert all(p.requires_grad for p in model.parameters())
    assert not any("c3a" in name for name, _ in model.named_modules())


def test_it_stands_alone_on_a_model():
    model = tiny_llama()
    handle = attach(model, adapter("peft:HIRA", r=2))
    for method in (adapter("lora"), adapter("peft:HIRA")):
        with pytest.raises(AdapterlabError, match="the model has an adapter of PEFT attached: detach it"):
            attach(model, method, name="second")
        with handle.disabled(), pytest.raises(AdapterlabError, match="detach it, or"):
            attach(model, method, name="second")
    handle.detach()
    attach(model, adapter("lora"))
    with pytest.raises(AdapterlabError, match="cannot be attached on top of other adapters"):
        attach(model, adapter("peft:HIRA"), name="second")


def test_a_model_that_peft_has_left_can_be_adapted():
    wrapped = get_peft_model(tiny_llama(), HiraConfig(r=2, target_modules=LLAMA))
    with pytest.raises(AdapterlabError, match=r"or call unload\(\) or merge_and_unload"):
        attach(wrapped, adapter("lora", rank=2))
    model = wrapped.unload()
    assert len(attach(model, adapter("lora", rank=2)).sites) == 14


def test_it_has_no_other_strength_no_merge_and_no_deltas():
    handle = attach(tiny_llama(), adapter("peft:HIRA", r=2))
    with pytest.raises(AdapterlabError, match=r"no strength 0\.5: give 0 or 1"):
        handle.strength = 0.5
    with pytest.raises(AdapterlabError, match="cannot be merged"):
        handle.merge()
    with pytest.raises(AdapterlabError, match=r"deltas\(\) is not available"):
        handle.deltas()


@pytest.mark.parametrize("training", [True, False])
def test_layers_of_peft_are_in_the_mode_of_the_model(training):
    model = tiny_llama().train(training)
    handle = attach(model, adapter("peft:LORA", r=2, lora_dropout=0.5))
    assert all(module.training == training for module in model.modules())
    with handle.disabled():
        model.train(not training)
    assert all(module.training != training for module in model.modules())


def test_a_new_head_is_saved_for_peft(tokens, tmp_path):
    def model() -> LlamaForSequenceClassification:
        torch.manual_seed(0)
        made = LlamaForSequenceClassification(tiny_llama(num_labels=2, pad_token_id=1).config).eval()
        mark_new_heads(made, ["score.weight"])
        return made

    trained = model()
    handle = attach(trained, adapter("peft:HIRA", r=2))
    with torch.no_grad():
        for parameter in handle.parameters():
            parameter.add_(0.1)
    save_peft(handle, tmp_path, base="my-model", task_type="SEQ_CLS")
    opened = PeftModel.from_pretrained(model(), tmp_path).eval()
    torch.testing.assert_close(opened(input_ids=tokens).logits, trained(tokens).logits, atol=1e-6, rtol=0)
    assert opened.peft_config["default"].base_model_name_or_path == "my-model"
    handle.save(tmp_path / "own")
    other = model()
    load(other, tmp_path / "own")
    assert torch.equal(other(tokens).logits, trained(tokens).logits)


def test_changes_are_undone_if_the_code_that_makes_them_fails():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    weight = model[0].weight.clone()

    def fail() -> None:
        model[1] = nn.Tanh()
        model[0].weight.data.mul_(2)
        model[0].requires_grad_(False)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        record(model, fail)
    assert isinstance(model[1], nn.ReLU)
    assert torch.equal(model[0].weight, weight)
    assert model[0].weight.requires_grad


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("peft:HIRRA", {}, "unknown PEFT method 'HIRRA': did you mean HIRA"),
        ("peft:HIRA", {"rank": 4}, "unknown setting 'rank' in adapter 'peft:HIRA'"),
        ("peft:HIRA", {"r": "8"}, "r = '8' does not fit PEFT's HiraConfig: Input should be a valid integer"),
        ("peft:LORA", {"bias": "some"}, "bias = 'some' does not fit PEFT's LoraConfig: Input should be 'none', 'all'"),
        ("peft:LILY", {"num_B": 1}, "peft:LILY: `num_B` must be at least 2"),
        ("peft:LORA", {"init_lora_weights": "eva"}, "init_lora_weights = 'eva' needs data"),
        ("peft:LORA", {"alora_invocation_tokens": [1]}, "alora_invocation_tokens needs data, or code"),
        ("peft:HIRA", {"task_type": "CAUSAL_LM"}, "unknown setting 'task_type'"),
        *[
            (f"peft:{name}", {}, f"peft:{name} needs more of PEFT than layers in the model")
            for name in ("ADALORA", "CARTRIDGE", "POLY", "PREFIX_TUNING", "PROMPT_TUNING", "SHADOW", "XLORA")
        ],
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(name, settings, message):
    with pytest.raises(AdapterlabError, match=message) as error:
        adapter(name, **settings)
    assert "\n" not in str(error.value)


def test_both_kinds_of_targets_are_refused():
    with pytest.raises(AdapterlabError, match="both target_modules and targets are given"):
        attach(tiny_llama(), adapter("peft:HIRA", target_modules=["q_proj"]), "k_proj")


def test_without_peft_the_message_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft.mapping", None)
    with pytest.raises(AdapterlabError, match=r"pip install 'adapterlab\[peft\]'"):
        adapter("peft:HIRA")
