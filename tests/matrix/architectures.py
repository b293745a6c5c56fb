"""Tiny models of many architectures, with random weights, and a call for each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

TOKENS = torch.tensor([[5, 9, 33, 12, 40, 7, 18, 2], [11, 30, 6, 44, 21, 3, 50, 13]])
IMAGES = torch.linspace(-1, 1, 2 * 3 * 16 * 16).sin().view(2, 3, 16, 16)
SOUND = torch.linspace(-3, 3, 2 * 8 * 16).sin().view(2, 8, 16)

TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
ENCODER = {k: v for k, v in TEXT.items() if k not in ("num_key_value_heads", "bos_token_id", "eos_token_id")}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
SEQ2SEQ = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}
MLA = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 24,
}


@dataclass(frozen=True)
class Architecture:
    """A family of models."""

    model: str
    """Class of transformers."""
    config: str
    """Class of its configuration."""
    settings: Mapping[str, Any]
    """Settings of the tiny model."""
    inputs: Mapping[str, Tensor] = field(default_factory=lambda: {"input_ids": TOKENS})
    """Arguments of a call."""
    output: str = "logits"
    """Output that is compared."""
    kind: str = "decoder"
    """One of decoder, encoder, seq2seq, vision, state space, pair."""

    @property
    def name(self) -> str:
        """Name of the architecture in `ARCHITECTURES`."""
        return next(name for name, own in ARCHITECTURES.items() if own is self)

    def make(self, **changes: Any) -> PreTrainedModel:
        """Return the model in eval mode, the same each time.

        Args:
            **changes: Settings that differ.
        """
        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**{**self.settings, **changes})
        model: PreTrainedModel = getattr(transformers, self.model)(config).eval()
        with torch.no_grad():
            for name, p in model.named_parameters():  # weights of random models are too small to tell errors
                if p.ndim > 1:
                    p.mul_(3.0)
                elif name.endswith("bias"):
                    p.normal_(0, 0.1)
        return model

    def takes_positions(self, model: nn.Module) -> bool:
        """True if a call takes the positions of its tokens.

        Args:
            model: The model.
        """
        return "position_ids" in inspect.signature(model.forward).parameters

    def run(self, model: nn.Module, **changes: Any) -> Tensor:
        """Return the output of a call.

        Args:
            model: The model.
            **changes: Arguments that differ.
        """
        found: Tensor = model(**{**self.inputs, **changes})[self.output]
        return found


def _causal(name: str, settings: Mapping[str, Any], **rest: Any) -> Architecture:
    return Architecture(f"{name}ForCausalLM", f"{name}Config", settings, **rest)


CLIP_TEXT = ENCODER | {"bos_token_id": 0, "eos_token_id": 2, "projection_dim": 16}
ARCHITECTURES: dict[str, Architecture] = {
    "Llama": _causal("Llama", TEXT),
    "Mistral": _causal("Mistral", TEXT | {"sliding_window": 4}),
    "Qwen2": _causal("Qwen2", TEXT),
    "Qwen3": _causal("Qwen3", TEXT | {"head_dim": 8}),
    "Gemma2": _causal("Gemma2", TEXT | {"head_dim": 16}),
    "Gemma3": Architecture("Gemma3ForCausalLM", "Gemma3TextConfig", TEXT | {"head_dim": 16, "sliding_window": 4}),
    "Phi": _causal("Phi", TEXT),
    "Phi3": _causal("Phi3", TEXT),
    "GPT2": Architecture(
        "GPT2LMHeadModel",
        "GPT2Config",
        {
            "vocab_size": 64,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        },
    ),
    "GPTNeoX": _causal("GPTNeoX", TEXT),
    "OPT": _causal("OPT", TEXT | {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "Bloom": _causal(
        "Bloom",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "n_layer": 2,
            "n_head": 4,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        },
    ),
    "Falcon": _causal("Falcon", TEXT),
    "Mixtral": _causal("Mixtral", TEXT | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "DeepseekV3": _causal("DeepseekV3", TEXT | MLA),
    "Mamba": _causal(
        "Mamba",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "state_size": 8,
            "num_hidden_layers": 2,
            "time_step_rank": 8,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        },
        kind="state space",
    ),
    "Bert": Architecture("BertForSequenceClassification", "BertConfig", ENCODER, kind="encoder"),
    "ModernBert": Architecture(
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        ENCODER | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, "local_attention": 4},
        kind="encoder",
    ),
    "DebertaV2": Architecture(
        "DebertaV2ForTokenClassification",
        "DebertaV2Config",
        ENCODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        kind="encoder",
    ),
    "T5": Architecture(
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "vocab_size": 64,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
        },
        {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :5]},
        kind="seq2seq",
    ),
    "Bart": Architecture(
        "BartForConditionalGeneration",
        "BartConfig",
        SEQ2SEQ,
        {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :5]},
        kind="seq2seq",
    ),
    "Whisper": Architecture(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {
            **SEQ2SEQ,
            "num_mel_bins": 8,
            "max_source_positions": 8,
            "max_target_positions": 16,
            "begin_suppress_tokens": None,
        },
        {"input_features": SOUND, "decoder_input_ids": TOKENS[:, :5]},
        kind="seq2seq",
    ),
    "ViT": Architecture("ViTForImageClassification", "ViTConfig", VISION, {"pixel_values": IMAGES}, kind="vision"),
    "Siglip": Architecture(
        "SiglipVisionModel", "SiglipVisionConfig", VISION, {"pixel_values": IMAGES}, "pooler_output", kind="vision"
    ),
    "CLIP": Architecture(
        "CLIPModel",
        "CLIPConfig",
        {"text_config": CLIP_TEXT, "vision_config": VISION | {"projection_dim": 16}, "projection_dim": 16},
        {"input_ids": TOKENS, "pixel_values": IMAGES},
        "logits_per_image",
        kind="pair",
    ),
}
