"""Tiny models written as GGUF files with the package `gguf`, as llama.cpp's converter lays them out."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.conftest import tiny_llama

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "he l", "l o", "Ġ Ġ", "i n"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES)]
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def small_llama(seed: int = 0, **changes) -> LlamaForCausalLM:
    """Two layers, grouped-query attention, and a vocabulary of all bytes."""
    shape = {"vocab_size": len(TOKENS), "hidden_size": 64, "intermediate_size": 96, "attention_bias": False}
    return tiny_llama(seed, **(shape | {"num_attention_heads": 4, "num_key_value_heads": 2} | changes))


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    *,
    architecture: str = "llama",
    more: dict[str, object] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    tokenizer: bool = True,
    split: str = "smollm",
    template: bool = True,
) -> Path:
    """Write a model as GGUF; matrices as `kind`, vectors as float32."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("A tiny model")
    writer.add_license("mit")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if architecture == "llama":
        writer.add_rope_dimension_count(config.head_dim)
    for key, value in (more or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_list(TOKENS)
        writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
        writer.add_token_merges(MERGES)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_pad_token_id(2)
        writer.add_add_bos_token(False)
        if template:
            writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.float().numpy()
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            array = _interleaved(array, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        writer.add_tensor(_name(name), *_quantized(array, kind))
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def as_stored(model: PreTrainedModel, kind: gguf.GGMLQuantizationType) -> PreTrainedModel:
    """Round a model's weights as a GGUF file of this kind does, and as the converted folder does after it."""
    for tensor in dict(model.named_parameters()).values():
        array = tensor.detach().numpy()
        if tensor.ndim > 1 and kind is not gguf.GGMLQuantizationType.F32:
            array = gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind)
        stored = {gguf.GGMLQuantizationType.F32: torch.float32, gguf.GGMLQuantizationType.F16: torch.float16}
        tensor.data.copy_(torch.tensor(array).to(stored.get(kind, torch.bfloat16)))
    return model


def _quantized(array: np.ndarray, kind: gguf.GGMLQuantizationType) -> tuple:
    if array.ndim == 1 or kind is gguf.GGMLQuantizationType.F32:
        return (array,)
    data = gguf.quants.quantize(array, kind)
    return (data,) if kind is gguf.GGMLQuantizationType.F16 else (data, None, kind)


def _interleaved(array: np.ndarray, heads: int) -> np.ndarray:
    """Order the rows of queries or keys as llama.cpp's rotary embedding pairs them: neighbours, not halves."""
    size = array.shape[0] // heads
    return array.reshape(heads, 2, size // 2, -1).swapaxes(1, 2).reshape(array.shape)


def _name(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, rest = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[rest]}.{ending}"
    return f"{NAMES[stem]}.{ending}"
