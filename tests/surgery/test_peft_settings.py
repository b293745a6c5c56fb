"""No setting of a PEFT adapter is ignored: each is honoured, refused by name, or known to have no effect."""

from __future__ import annotations

import dataclasses
import json
import warnings

import peft
import pytest
import torch

from adapterlab.errors import AdapterlabError
from adapterlab.surgery import load_peft
from tests.conftest import tiny_llama
from tests.surgery.test_peft_import import SHARED, saved_by_peft

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
]


def one_layer():
    return tiny_llama(attention_bias=False, num_hidden_layers=1)


ABOUT_LAYERS = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"}
ONLY_AT_START = {
    "init_lora_weights",
    "init_weights",
    "init_ia3_weights",
    "init_vector_bank_bound",
    "init_logits_std",
    "projection_prng_key",
    "mask_type",
    "random_seed",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "tokenizer_name_or_path",
    "tokenizer_kwargs",
    "encoder_reparameterization_type",
    "encoder_hidden_size",
    "encoder_num_layers",
    "encoder_dropout",
    "prefix_projection",
    "lambda_pattern",
    "eva_config",
}
DECIDED_BY_THE_TENSORS = {
    "r",
    "rank_pattern",
    "modules_to_save",
    "token_dim",
    "num_attention_heads",
    "num_layers",
    "sparse",
    "very_sparse",
    "use_effective_conv2d",
    "rank_dropout_scale",
    "feedforward_modules",
    "boft_block_size",
    "boft_block_num",
}
CONTRADICTED_BY_THE_TENSORS = {
    "save_only_topk_weights",
    "use_dora",
    "block_share",
    "block_size",
    "oft_block_size",
    "num_vectors",
    "num_virtual_tokens",
    "vector_length",
    "decompose_both",
    "decompose_factor",
    "gralora_k",
    "hybrid_r",
    "psoft_mag_a",
    "psoft_mag_b",
    "variant",
    "group_size",
}
NOT_IN_USE = {
    "cayley_neumann_eps",
    "num_cayley_neumann_terms",
    "megatron_core",
    "qalora_group_size",
    "mini_r",
    "psoft_alpha",
    "psoft_svd_lowrank_niter",
}
OTHERWISE = {
    bool: lambda old: not old,
    int: lambda old: old + 1,
    float: lambda old: old + 0.25,
    str: lambda old: "strange",
}


def strange(value: object) -> object:
    """Another value of the same kind, which is in use."""
    return OTHERWISE[type(value)](value) if type(value) in OTHERWISE else {"q_proj": 7}


@pytest.mark.parametrize("case", [case for case in SHARED if " " not in case])
def test_every_setting_is_honoured_or_refused_by_name(case, tokens, tmp_path):
    """Each field of PEFT's config gets another value; what loads then without a word must be what PEFT makes of it."""
    config = SHARED[case][1]
    saved_by_peft(one_layer(), config, tmp_path / "saved", tokens)
    stored = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    expected = load_peft(one_layer(), tmp_path / "saved")
    known = ABOUT_LAYERS | ONLY_AT_START | DECIDED_BY_THE_TENSORS | NOT_IN_USE
    own = {f.name for f in dataclasses.fields(config)} - {f.name for f in dataclasses.fields(peft.PeftConfig)}
    for field in sorted({*own, "from_a_later_version"} - known):
        (tmp_path / "saved" / "adapter_config.json").write_text(
            json.dumps(stored | {field: strange(stored.get(field))})
        )
        model = one_layer()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                handle = load_peft(model, tmp_path / "saved")
            except AdapterlabError as error:
                refusal = str(error)
            else:
                refusal = ""
        if refusal:
            assert field in refusal or field in CONTRADICTED_BY_THE_TENSORS, (field, refusal)
            continue
        if any(field in str(warning.message) for warning in said):
            continue
        kept = handle.adapter == expected.adapter
        same = all(
            torch.equal(a, b)
            for path, site in handle.sites.items()
            for a, b in zip(site.state.tensors(), expected.sites[path].state.tensors(), strict=True)
        )
        assert not (kept and same), f"{field} was ignored"
