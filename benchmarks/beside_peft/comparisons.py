"""The pairs of our method and PEFT's that are compared, their sizes, and the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapterlab.adapters import all_adapters
from adapterlab.adapters.base import Adapter


@dataclass(frozen=True)
class Shape:
    """A model, and the settings that must divide its sides."""

    hidden: int
    """Width of the model."""
    intermediate: int
    """Width of the feed-forward block."""
    heads: int
    """Heads of the attention."""
    kv_heads: int
    """Heads of keys and values; fewer than `heads` for grouped queries."""
    circulant: Sequence[int]
    """C3A's block sizes for the three sizes; a smaller block has more parameters."""
    block: Sequence[int]
    """Bone's block sizes."""
    vector: int
    """Length of VB-LoRA's vectors."""
    layers: int = 2
    """Number of layers."""


MODELS: Mapping[str, Shape] = {
    "1024": Shape(1024, 2816, 16, 16, (256, 256, 128), (16, 64, 128), 256),
    "256": Shape(256, 768, 8, 4, (128, 64, 32), (16, 64, 128), 128),
    "576": Shape(576, 1536, 9, 3, (192, 96, 48), (16, 64, 192), 192),
}
"""Models by name. That of width 1024 has the table of all methods; 256 is the embedded model's width, and 576 with nine
heads in groups of three is the shape of SmolLM2-135M, whose sides are no powers of two."""
SIZES: Sequence[str] = ("small", "usual", "large")
"""Sizes of a method: a small, a usual and a large number of parameters."""
NORMS = ["input_layernorm", "post_attention_layernorm", "norm"]
"""Names of the norms to adapt."""
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


Make = Callable[[Any, Shape], Comparison]
"""Function that makes a comparison for one of the three values that set a method's size, and a model."""


def lora(rank: int, **settings: Any) -> Callable[[], peft.PeftConfig]:
    """Return a function that makes PEFT's configuration of a LoRA.

    Args:
        rank: Its rank.
        **settings: Further fields of the configuration.
    """
    return on_linears(peft.LoraConfig, r=rank, lora_alpha=16, **settings)


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


def adalora(rank: int) -> Callable[[], peft.PeftConfig]:
    """Return a function that makes PEFT's configuration of an AdaLoRA.

    Args:
        rank: Its rank before and after pruning.
    """
    return on_linears(peft.AdaLoraConfig, init_r=rank, target_r=rank, total_step=100, tinit=10, tfinal=10)


def oft(block: int, neumann: bool) -> Callable[[], peft.PeftConfig]:
    """Return a function that makes PEFT's configuration of an OFT.

    Args:
        block: Side of a block.
        neumann: True for the Neumann series of OFTv2.
    """
    return on_linears(peft.OFTConfig, oft_block_size=block, use_cayley_neumann=neumann)


ONE: Sequence[Any] = (None, None, None)
"""Of a method that has one size."""
COMPARISONS: Mapping[str, tuple[Sequence[Any], Make]] = {
    "lora": ((2, 8, 64), lambda r, _: Comparison({"rank": r}, lora(r))),
    "pissa": ((2, 8, 64), lambda r, _: Comparison({"rank": r}, lora(r, init_lora_weights="pissa"))),
    "adalora": ((2, 8, 64), lambda r, _: Comparison({"rank": r}, adalora(r))),
    "psoft": ((8, 32, 64), lambda r, _: Comparison({"rank": r}, on_linears(peft.PsoftConfig, r=r))),
    "oft": ((8, 32, 64), lambda b, _: Comparison({"block_size": b}, oft(b, neumann=False))),
    "oftv2": ((8, 32, 64), lambda b, _: Comparison({"block_size": b}, oft(b, neumann=True))),
    "boft": (
        (4, 8, 16),
        lambda b, _: Comparison(
            {"block_size": b, "factors": 2, "rescale": True},
            on_linears(peft.BOFTConfig, boft_block_size=b, boft_n_butterfly_factor=2),
        ),
    ),
    "svft, random": (ONE, lambda *_: Comparison({"pattern": "random"}, method="svft")),
    "hra": ((2, 8, 32), lambda r, _: Comparison({"rank": r}, on_linears(peft.HRAConfig, r=r))),
    "road": (
        (1, 1, 4),
        lambda v, _: Comparison(
            {"variant": v, "group_size": 64}, on_linears(peft.RoadConfig, variant=f"road_{v}", group_size=64)
        ),
    ),
    "dora": ((2, 8, 64), lambda r, _: Comparison({"rank": r}, lora(r, use_dora=True))),
    "delora": ((2, 8, 64), lambda r, _: Comparison({"rank": r}, on_linears(peft.DeloraConfig, r=r))),
    "ia3": (ONE, lambda *_: Comparison({}, on_linears(peft.IA3Config, feedforward_modules=["down_proj"]))),
    "vera": ((64, 256, 1024), lambda r, _: Comparison({"rank": r}, on_linears(peft.VeraConfig, r=r))),
    "ln_tuning": (ONE, lambda *_: Comparison({}, lambda: peft.LNTuningConfig(target_modules=NORMS))),
    "hira": ((2, 8, 64), lambda r, _: Comparison({"rank": r}, on_linears(peft.HiraConfig, r=r))),
    "gralora": ((8, 32, 64), lambda r, _: Comparison({"rank": r}, on_linears(peft.GraloraConfig, r=r))),
    "frod": (
        (2_000, 10_000, 50_000),
        lambda m, _: Comparison({"millionths": m}, on_linears(peft.FrodConfig, sparse_rate=m / 1e6, progressbar=False)),
    ),
    "randlora": ((128, 32, 16), lambda r, _: Comparison({"rank": r}, on_linears(peft.RandLoraConfig, r=r))),
    "c3a": (
        (0, 1, 2),
        lambda i, shape: Comparison(
            {"block_size": shape.circulant[i]}, on_linears(peft.C3AConfig, block_size=shape.circulant[i])
        ),
    ),
    "fourierft": (
        (300, 1000, 12_000),
        lambda n, _: Comparison({"n": n}, on_linears(peft.FourierFTConfig, n_frequency=n)),
    ),
    "loha": (
        (2, 8, 32),
        lambda r, _: Comparison({"rank": r, "alpha": float(r)}, on_linears(peft.LoHaConfig, r=r, alpha=r)),
    ),
    "lokr": ((2, 8, 16), lambda r, _: Comparison({"rank": r, "factor": 0}, on_linears(peft.LoKrConfig, r=r, alpha=r))),
    "miss": ((16, 64, 128), lambda r, _: Comparison({"rank": r}, on_linears(peft.MissConfig, r=r))),
    "bone": (
        (0, 1, 2),
        lambda i, shape: Comparison(
            {"block_size": shape.block[i]}, on_linears(peft.MissConfig, r=shape.block[i], init_weights="bat")
        ),
    ),
    "vblora": (
        (90, 256, 512),
        lambda n, shape: Comparison(
            {"rank": 4, "vectors": n, "length": shape.vector},
            on_linears(peft.VBLoRAConfig, r=4, num_vectors=n, vector_length=shape.vector),
        ),
    ),
    "shira": ((8, 32, 64), lambda r, _: Comparison({"rank": r}, on_linears(peft.ShiraConfig, r=r))),
    "prompt": (
        (5, 20, 100),
        lambda n, _: Comparison({"length": n}, for_tokens(peft.PromptTuningConfig, num_virtual_tokens=n)),
    ),
    "prefix": (
        (5, 20, 100),
        lambda n, shape: Comparison(
            {"length": n, "hidden": 512},
            for_tokens(peft.PrefixTuningConfig, num_virtual_tokens=n, prefix_projection=True, encoder_hidden_size=512),
        ),
    ),
    "ptuning_v2": (
        (5, 20, 100),
        lambda n, _: Comparison({"length": n}, for_tokens(peft.PrefixTuningConfig, num_virtual_tokens=n)),
    ),
    "llama_adapter": (
        (5, 10, 50),
        lambda n, _: Comparison({"length": n}, for_tokens(peft.AdaptionPromptConfig, adapter_len=n, adapter_layers=2)),
    ),
}
"""Comparisons by name: the values of the three sizes, and the function that makes one. Other methods have no counterpart in
PEFT and run with their default settings."""


def names() -> list[str]:
    """Return the names of all comparisons: each method that fits the model, then the variants of methods."""
    methods = [name for name in all_adapters() if name not in EXCLUDED]
    return methods + [name for name in COMPARISONS if name not in methods]


def comparison(name: str, shape: Shape = MODELS["1024"], size: str = "usual") -> Comparison:
    """Return the comparison with a name; one with default settings if `COMPARISONS` has no entry.

    Args:
        name: One of `names()`.
        shape: The model.
        size: One of `SIZES`.
    """
    if name not in COMPARISONS:
        return Comparison()
    values, make = COMPARISONS[name]
    return make(values[SIZES.index(size)], shape)


def sizes_of(name: str) -> Sequence[str]:
    """Return the sizes in which a comparison differs.

    Args:
        name: One of `names()`.
    """
    values, _ = COMPARISONS.get(name, (ONE, None))
    return SIZES if len(set(values)) > 1 else SIZES[1:2]


def method_of(name: str, shape: Shape = MODELS["1024"], size: str = "usual") -> Adapter:
    """Return our method of a comparison.

    Args:
        name: One of `names()`.
        shape: The model.
        size: One of `SIZES`.
    """
    found = comparison(name, shape, size)
    return all_adapters()[found.method or name](**found.ours)


def base_model(device: torch.device, dtype: torch.dtype, shape: Shape = MODELS["1024"]) -> LlamaForCausalLM:
    """Return a random Llama with a tiny vocabulary.

    Args:
        device: Device of the weights.
        dtype: Type of the weights.
        shape: Its sizes.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(device=device, dtype=dtype).train()
