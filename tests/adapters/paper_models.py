"""The models of the papers' tables, on the meta device: their shapes and nothing else."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from transformers import (
    DebertaV2Config,
    DebertaV2Model,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaModel,
)

BLOCKS = "*layer.*"
"""The linear layers of an encoder's blocks: no pooler, no embedding projection."""
QV = ("q_proj", "v_proj")


@cache
def model(name: str) -> nn.Module:
    """The published model of this name, without weights."""
    with torch.device("meta"):
        if name == "deberta-v3-base":
            base = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
            return DebertaV2Model(DebertaV2Config(vocab_size=128100, **base))
        if name == "dinov2-large":
            return Dinov2Model(Dinov2Config(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16))
        if name == "roberta-base":
            return RobertaModel(RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1))
        shapes = {
            "llama-7b": {},
            "llama-13b": {
                "hidden_size": 5120,
                "intermediate_size": 13824,
                "num_hidden_layers": 40,
                "num_attention_heads": 40,
            },
            "llama-3.2-3b": {
                "hidden_size": 3072,
                "intermediate_size": 8192,
                "num_hidden_layers": 28,
                "num_attention_heads": 24,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
            },
            "llama-3.1-8b": {
                "intermediate_size": 14336,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
            },
        }
        return LlamaForCausalLM(LlamaConfig(**shapes[name]))
