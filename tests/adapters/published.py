"""Published models on the meta device, in the shapes that the papers' tables count on; nothing is downloaded."""

from __future__ import annotations

from functools import cache

import torch
from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaModel
from transformers.modeling_utils import PreTrainedModel


@cache
def llama_7b(mistral: bool = False) -> PreTrainedModel:
    """LLaMA and Llama 2 of 7 billion parameters, or Mistral's shapes."""
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336 if mistral else 11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8 if mistral else 32,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


@cache
def roberta(large: bool = False) -> PreTrainedModel:
    """RoBERTa base or large, without a pooler or a head."""
    config = RobertaConfig(
        vocab_size=50265,
        hidden_size=1024 if large else 768,
        intermediate_size=4096 if large else 3072,
        num_hidden_layers=24 if large else 12,
        num_attention_heads=16 if large else 12,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    with torch.device("meta"):
        return RobertaModel(config, add_pooling_layer=False)
