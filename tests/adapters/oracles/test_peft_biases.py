"""Methods that act on a layer's whole answer, its bias too: whole models with biases beside PEFT's."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import noisy
from tests.conftest import tiny_gpt2

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


def gpt2():
    return tiny_gpt2()


def qwen():
    """Biases on queries, keys and values alone."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return Qwen2ForCausalLM(config).eval()


def biased(make):
    model = make().double()
    noisy((p for name, p in model.named_parameters() if name.endswith("bias")), 0.3)
    return model


def ia3(targets, down):
    config = peft.IA3Config(target_modules=targets, feedforward_modules=down, task_type="CAUSAL_LM")
    return adapter("ia3"), config, lambda s: {"ia3_l": s["gain_in"][None] if "gain_in" in s else s["gain_out"][:, None]}


def road(targets, down):
    config = peft.RoadConfig(variant="road_1", group_size=4, target_modules=targets, task_type="CAUSAL_LM")

    def tensors(state):
        return {
            theirs: state[ours][0].detach() for theirs, ours in (("road_theta", "angles"), ("road_alpha", "scales"))
        }

    return adapter("road", group_size=4), config, tensors


@pytest.mark.parametrize(
    ("make", "method", "targets", "down"),
    [
        (gpt2, ia3, ["c_attn", "mlp.c_proj"], ["mlp.c_proj"]),
        (qwen, ia3, ["k_proj", "v_proj", "down_proj"], ["down_proj"]),
        (qwen, road, ["q_proj", "k_proj", "v_proj", "up_proj"], []),
    ],
)
def test_a_whole_model_answers_merges_and_learns_as_in_peft(make, method, targets, down, tokens):
    model = biased(make)
    method, config, tensors = method(targets, down)
    config.fan_in_fan_out = make is gpt2
    theirs = peft.get_peft_model(copy.deepcopy(model), config).double()
    handle = attach(model, method, targets=targets)
    noisy(handle.parameters())
    layers = {path: theirs.base_model.model.get_submodule(path) for path in handle.sites}
    for path, site in handle.sites.items():
        for name, tensor in tensors(dict(site.named_parameters())).items():
            getattr(layers[path], name)["default"].data = tensor.detach().clone()

    ours, wanted = model(input_ids=tokens, labels=tokens), theirs(input_ids=tokens, labels=tokens)
    torch.testing.assert_close(ours.logits, wanted.logits, **CLOSE)
    ours.loss.backward()
    wanted.loss.backward()
    for path, site in handle.sites.items():
        for name, tensor in tensors({k: p.grad for k, p in site.named_parameters()}).items():
            torch.testing.assert_close(tensor, getattr(layers[path], name)["default"].grad, **CLOSE)

    handle.merge()
    merged = theirs.merge_and_unload()
    for path in layers:
        ours, wanted = model.get_submodule(path), merged.get_submodule(path)
        torch.testing.assert_close(ours.weight, wanted.weight, **CLOSE)
        torch.testing.assert_close(ours.bias, wanted.bias, **CLOSE)


@pytest.mark.parametrize("name", ["ia3", "road"])
def test_merged_biases_come_back_bit_for_bit_and_count_as_changes(name, tokens):
    model = biased(gpt2)
    before = {key: t.clone() for key, t in model.state_dict().items()}
    handle = attach(model, adapter(name), targets=["c_attn", "c_fc"])
    noisy(handle.parameters())
    handle.strength = 0.5
    adapted, deltas = model(tokens).logits, handle.deltas()
    assert {path.rpartition(".")[2] for path in deltas} == {"c_attn", "c_fc", "bias"}
    handle.merge()
    torch.testing.assert_close(model(tokens).logits, adapted, **CLOSE)
    handle.detach()
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
    with torch.no_grad():
        for path, delta in deltas.items():
            tensor = model.get_parameter(path if path.endswith("bias") else f"{path}.weight")
            tensor += delta if path.endswith("bias") else delta.T
    torch.testing.assert_close(model(tokens).logits, adapted, **CLOSE)
