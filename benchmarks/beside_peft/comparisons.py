"""The pairs of our method and PEFT's that are compared, their sizes, and the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapterlab.adapters import all_adapters
from adapterlab.adapters.base import Adapter

SHAPE = {"hidden_size": 1024, "intermediate_size": 2816}
"""Sizes of the Llama layers."""
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Names of the linear layers to adapt."""
EXCLUDED = ("full_ft", "bitfit", "trainable_tokens")
"""Methods without a measurement: a Llama has no biases, the input has no tokens, and full fine-tuning is no adapter."""


@dataclass(frozen=True)
class Comparison:
    """A comparison of our method with PEFT's in the same sizes."""

    ours: Mapping[str, Any] = field(default_factory=dict)
    """Settings of our method."""
    theirs: Callable[[], peft.PeftConfig] | None = None
    """Makes PEFT's configuration; None if PEFT lacks the method."""
    method: str | None = None
    """Name of our method, if it differs from the name of the comparison."""


def lora(**settings: Any) -> peft.PeftConfig:
    """Return PEFT's configuration of a LoRA of rank 8.

    Args:
        **settings: Further fields of the configuration.
    """
    return peft.LoraConfig(r=8, lora_alpha=16, target_modules=LINEARS, **settings)


def on_linears(config: type[peft.PeftConfig], **settings: Any) -> Callable[[], peft.PeftConfig]:
    """Return a function that makes a configuration for all linear layers.

    Args:
        config: PEFT's class.
        **settings: Fields of the configuration.
    """
    return lambda: config(target_modules=LINEARS, **settings)


def for_tokens(config: type[peft.PeftConfig], **settings: Any) -> Callable[[], peft.PeftConfig]:
    """Return a function that makes a configuration for a causal language model.

    Args:
        config: PEFT's class.
        **settings: Fields of the configuration.
    """
    return lambda: config(task_type=peft.TaskType.CAUSAL_LM, **settings)


COMPARISONS = {
    "lora": Comparison({"rank": 8}, lora),
    "pissa": Comparison({"rank": 8}, lambda: lora(init_lora_weights="pissa")),
    "adalora": Comparison(
        {"rank": 8},
        on_linears(peft.AdaLoraConfig, init_r=8, target_r=8, total_step=100, tinit=10, tfinal=10),
    ),
    "psoft": Comparison({"rank": 32}, on_linears(peft.PsoftConfig, r=32)),
    "oft": Comparison({"block_size": 32}, on_linears(peft.OFTConfig, oft_block_size=32, use_cayley_neumann=False)),
    "oftv2": Comparison({"block_size": 32}, on_linears(peft.OFTConfig, oft_block_size=32, use_cayley_neumann=True)),
    "boft": Comparison(
        {"block_size": 8, "factors": 2, "rescale": True},
        on_linears(peft.BOFTConfig, boft_block_size=8, boft_n_butterfly_factor=2),
    ),
    "svft, random": Comparison({"pattern": "random"}, method="svft"),
    "hra": Comparison({"rank": 8}, on_linears(peft.HRAConfig, r=8)),
    "road": Comparison({"variant": 1, "group_size": 64}, on_linears(peft.RoadConfig, variant="road_1", group_size=64)),
    "dora": Comparison({"rank": 8}, lambda: lora(use_dora=True)),
    "delora": Comparison({"rank": 8}, on_linears(peft.DeloraConfig, r=8)),
    "ia3": Comparison({}, on_linears(peft.IA3Config, feedforward_modules=["down_proj"])),
    "vera": Comparison({"rank": 256}, on_linears(peft.VeraConfig, r=256)),
    "ln_tuning": Comparison(
        {}, lambda: peft.LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"])
    ),
    "randlora": Comparison({"rank": 32}, on_linears(peft.RandLoraConfig, r=32)),
    "c3a": Comparison({"block_size": 256}, on_linears(peft.C3AConfig, block_size=256)),
    "fourierft": Comparison({"n": 1000}, on_linears(peft.FourierFTConfig, n_frequency=1000)),
    "loha": Comparison({"rank": 8, "alpha": 8.0}, on_linears(peft.LoHaConfig, r=8, alpha=8)),
    "lokr": Comparison({"rank": 8, "factor": 0}, on_linears(peft.LoKrConfig, r=8, alpha=8)),
    "miss": Comparison({"rank": 64}, on_linears(peft.MissConfig, r=64)),
    "bone": Comparison({"block_size": 64}, on_linears(peft.MissConfig, r=64, init_weights="bat")),
    "vblora": Comparison({"rank": 4}, on_linears(peft.VBLoRAConfig, r=4, num_vectors=256, vector_length=256)),
    "shira": Comparison({"rank": 32}, on_linears(peft.ShiraConfig, r=32)),
    "prompt": Comparison({}, for_tokens(peft.PromptTuningConfig, num_virtual_tokens=20)),
    "prefix": Comparison({}, for_tokens(peft.PrefixTuningConfig, num_virtual_tokens=20, prefix_projection=True)),
    "ptuning_v2": Comparison({}, for_tokens(peft.PrefixTuningConfig, num_virtual_tokens=20)),
    "llama_adapter": Comparison({}, for_tokens(peft.AdaptionPromptConfig, adapter_len=10, adapter_layers=2)),
}
"""Comparisons by name. Other methods have no counterpart in PEFT and run with their default settings."""


def names() -> list[str]:
    """Return the names of all comparisons: each method that fits the model, then the variants of methods."""
    methods = [name for name in all_adapters() if name not in EXCLUDED]
    return methods + [name for name in COMPARISONS if name not in methods]


def comparison(name: str) -> Comparison:
    """Return the comparison with a name; one with default settings if `COMPARISONS` has no entry.

    Args:
        name: One of `names()`.
    """
    return COMPARISONS.get(name, Comparison())


def method_of(name: str) -> Adapter:
    """Return our method of a comparison.

    Args:
        name: One of `names()`.
    """
    return all_adapters()[comparison(name).method or name](**comparison(name).ours)


def base_model(device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    """Return a random model of two Llama layers with 16 heads and a tiny vocabulary.

    Args:
        device: Device of the weights.
        dtype: Type of the weights.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        **SHAPE,
        num_hidden_layers=2,
        num_attention_heads=16,
        num_key_value_heads=16,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(device=device, dtype=dtype).train()
