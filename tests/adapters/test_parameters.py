"""Which parameters the methods that adapt parameters choose."""

from __future__ import annotations

import pytest
from transformers import RobertaConfig, RobertaModel

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from tests.conftest import tiny_llama


def tiny_roberta():
    config = RobertaConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    return RobertaModel(config, add_pooling_layer=False).eval()


def test_bitfit_takes_every_bias():
    model = tiny_roberta()
    handle = attach(model, adapter("bitfit"))
    assert set(handle.sites) == {name for name, _ in model.named_parameters() if name.endswith("bias")}


def test_bitfits_subset_is_the_queries_and_the_widening_layer():
    handle = attach(tiny_roberta(), adapter("bitfit", subset=True))
    endings = {path.split(".", 3)[3] for path in handle.sites}
    assert endings == {"attention.self.query.bias", "intermediate.dense.bias"}


def test_a_model_without_biases_is_told_so():
    model = tiny_llama(attention_bias=False)
    structure = repr(model)
    with pytest.raises(AdapterlabError, match="LlamaForCausalLM has no parameter that bitfit adapts: it has no biases"):
        attach(model, adapter("bitfit"))
    assert repr(model) == structure


@pytest.mark.parametrize(("make", "parameters"), [(tiny_llama, 5), (tiny_roberta, 10)])
def test_ln_tuning_takes_every_norm(make, parameters):
    handle = attach(make(), adapter("ln_tuning"))
    assert len(handle.sites) == parameters
    assert all("norm" in path.lower() for path in handle.sites)
