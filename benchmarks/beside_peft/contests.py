"""Which method meets which of PEFT's, in which sizes, and on which model."""

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
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
UNFIT = ("full_ft", "bitfit", "trainable_tokens")
"""A Llama has no biases, the bench feeds vectors and no tokens, and to train everything is no adapter."""


@dataclass(frozen=True)
class Contest:
    """The same sizes on both sides; `theirs` is None where PEFT lacks the method."""

    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Callable[[], peft.PeftConfig] | None = None
    method: str | None = None
    """The method's name, where the contest is not called after it."""


def lora(**settings: Any) -> peft.PeftConfig:
    return peft.LoraConfig(r=8, lora_alpha=16, target_modules=LINEARS, **settings)


def on_linears(config: type[peft.PeftConfig], **settings: Any) -> Callable[[], peft.PeftConfig]:
    return lambda: config(target_modules=LINEARS, **settings)


def for_tokens(config: type[peft.PeftConfig], **settings: Any) -> Callable[[], peft.PeftConfig]:
    return lambda: config(task_type=peft.TaskType.CAUSAL_LM, **settings)


CONTESTS = {
    "lora": Contest({"rank": 8}, lora),
    "pissa": Contest({"rank": 8}, lambda: lora(init_lora_weights="pissa")),
    "adalora": Contest(
        {"rank": 8},
        on_linears(peft.AdaLoraConfig, init_r=8, target_r=8, total_step=100, tinit=10, tfinal=10),
    ),
    "psoft": Contest({"rank": 32}, on_linears(peft.PsoftConfig, r=32)),
    "oft": Contest({"block_size": 32}, on_linears(peft.OFTConfig, oft_block_size=32, use_cayley_neumann=False)),
    "oftv2": Contest({"block_size": 32}, on_linears(peft.OFTConfig, oft_block_size=32, use_cayley_neumann=True)),
    "boft": Contest(
        {"block_size": 8, "factors": 2, "rescale": True},
        on_linears(peft.BOFTConfig, boft_block_size=8, boft_n_butterfly_factor=2),
    ),
    "svft, random": Contest({"pattern": "random"}, method="svft"),
    "hra": Contest({"rank": 8}, on_linears(peft.HRAConfig, r=8)),
    "road": Contest({"variant": 1, "group_size": 64}, on_linears(peft.RoadConfig, variant="road_1", group_size=64)),
    "dora": Contest({"rank": 8}, lambda: lora(use_dora=True)),
    "delora": Contest({"rank": 8}, on_linears(peft.DeloraConfig, r=8)),
    "ia3": Contest({}, on_linears(peft.IA3Config, feedforward_modules=["down_proj"])),
    "vera": Contest({"rank": 256}, on_linears(peft.VeraConfig, r=256)),
    "ln_tuning": Contest(
        {}, lambda: peft.LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"])
    ),
    "randlora": Contest({"rank": 32}, on_linears(peft.RandLoraConfig, r=32)),
    "c3a": Contest({"block_size": 256}, on_linears(peft.C3AConfig, block_size=256)),
    "fourierft": Contest({"n": 1000}, on_linears(peft.FourierFTConfig, n_frequency=1000)),
    "loha": Contest({"rank": 8}, on_linears(peft.LoHaConfig, r=8, alpha=8)),
    "lokr": Contest({"rank": 8, "factor": 0}, on_linears(peft.LoKrConfig, r=8, alpha=8)),
    "miss": Contest({"rank": 64}, on_linears(peft.MissConfig, r=64)),
    "bone": Contest({"block_size": 64}, on_linears(peft.MissConfig, r=64, init_weights="bat")),
    "vblora": Contest({"rank": 4}, on_linears(peft.VBLoRAConfig, r=4, num_vectors=256, vector_length=256)),
    "shira": Contest({"rank": 32}, on_linears(peft.ShiraConfig, r=32)),
    "prompt": Contest({}, for_tokens(peft.PromptTuningConfig, num_virtual_tokens=20)),
    "prefix": Contest({}, for_tokens(peft.PrefixTuningConfig, num_virtual_tokens=20, prefix_projection=True)),
    "ptuning_v2": Contest({}, for_tokens(peft.PrefixTuningConfig, num_virtual_tokens=20)),
    "llama_adapter": Contest({}, for_tokens(peft.AdaptionPromptConfig, adapter_len=10, adapter_layers=2)),
}
"""Whatever is not here has no counterpart and runs with its defaults."""


def contestants() -> list[str]:
    """Every method that the bench's model has a place for, then the variants."""
    methods = [name for name in all_adapters() if name not in UNFIT]
    return methods + [name for name in CONTESTS if name not in methods]


def contest(name: str) -> Contest:
    return CONTESTS.get(name, Contest())


def method_of(name: str) -> Adapter:
    """Ours."""
    return all_adapters()[contest(name).method or name](**contest(name).ours)


def base_model(device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    """Two Llama layers with 16 heads and next to no vocabulary."""
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
