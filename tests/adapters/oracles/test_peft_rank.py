"""The rank theme against PEFT's own modules."""

from __future__ import annotations

import pytest
import torch
from peft import (
    C3AConfig,
    FourierFTConfig,
    GraloraConfig,
    HiraConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    RandLoraConfig,
)

from adapterlab.adapters.rank.c3a import C3A
from adapterlab.adapters.rank.fourierft import FourierFT
from adapterlab.adapters.rank.gralora import GraLoRA
from adapterlab.adapters.rank.hira import HiRA
from adapterlab.adapters.rank.loha import LoHa
from adapterlab.adapters.rank.lokr import LoKr
from adapterlab.adapters.rank.lora import LoRA
from adapterlab.adapters.rank.randlora import RandLoRA
from tests.adapters.oracles.peft_layers import Twin, the_same_as_peft


def low_rank(state):
    return {"lora_A.weight": state["a"], "lora_B.weight": state["b"]}


def bases(state):
    """PEFT runs through the columns of all `B_j` in another order than through the rows that they meet: the rank first."""
    n, rank = state["lambda"].shape
    small = state["gamma"].shape[1]
    a, b = state["a"][:, :small], state["b"][:, : n * rank]
    interleaved = b.unflatten(1, (n, rank)).transpose(1, 2)  # column (k, j) is B_j's k
    return {"randlora_A": a[:, None], "randlora_B": interleaved.flatten(1).unflatten(1, (n, rank))}


def kronecker(state):
    names = {
        "c": "lokr_w1",
        "c_a": "lokr_w1_b",
        "c_b": "lokr_w1_a",
        "d": "lokr_w2",
        "d_a": "lokr_w2_b",
        "d_b": "lokr_w2_a",
    }
    return {names[name]: tensor for name, tensor in state.trainable.items()}


def lokr(shape=(12, 8), **settings):
    ours = LoKr(rank=2, alpha=3.0, factor=2, **settings)
    theirs = LoKrConfig(
        r=100 if ours.full else 2,
        alpha=100 if ours.full else 3,
        decompose_factor=2,
        decompose_both=ours.both,
        target_modules=["layer"],
    )
    return Twin(ours, theirs, kronecker, shape=shape)


def gralora(shape=(12, 8), hybrid=0, **settings):
    ours = GraLoRA(alpha=5.0, hybrid_rank=hybrid, **settings)
    theirs = GraloraConfig(
        r=ours.rank, gralora_k=ours.blocks, alpha=5, hybrid_r=hybrid, target_modules=["layer"], init_weights=False
    )

    def tensors(state):
        found = {"gralora_A": state["a"].transpose(1, 2), "gralora_B": state["b"].transpose(1, 2)}
        if hybrid:
            found |= {"gralora_A_general.weight": state["general_a"], "gralora_B_general.weight": state["general_b"]}
        return found

    return Twin(ours, theirs, tensors, shape=shape)


def randlora(rows, columns):
    return Twin(
        RandLoRA(rank=3, alpha=5.0),
        RandLoraConfig(r=3, randlora_alpha=5, target_modules=["layer"]),
        lambda s: {"randlora_lambda": s["lambda"].T, "randlora_gamma": s["gamma"]},
        bases,
        shape=(rows, columns),
    )


TWINS = {
    # PEFT's Fourier transforms are in float32 whatever they are given, and it divides by the input's width. Its own backward
    # pass (the paper's algorithm A1) takes C(w) for its transpose, so its gradient of the input is not that of its answer.
    "c3a": Twin(
        C3A(block_size=4, scaled=True),
        C3AConfig(block_size=4, target_modules=["layer"], init_weights=True),
        lambda s: {"c3a_kernel": s["kernel"]},
        rtol=1e-5,
        input_gradient=False,
    ),
    "fourierft": Twin(
        FourierFT(n=20, alpha=30.0, width=0, zero_start=False),
        FourierFTConfig(n_frequency=20, scaling=30.0, target_modules=["layer"]),
        lambda s: {"fourierft_spectrum": s["coefficients"]},
        lambda s: {"indices": torch.stack([s["entries"] // 8, s["entries"] % 8])},
        rtol=1e-5,
    ),
    "loha": Twin(
        LoHa(rank=3, alpha=5.0),
        LoHaConfig(r=3, alpha=5, target_modules=["layer"]),
        lambda s: {"hada_w1_a": s["b1"], "hada_w1_b": s["a1"], "hada_w2_a": s["b2"], "hada_w2_b": s["a2"]},
    ),
    "lokr": lokr(shape=(24, 16)),
    "lokr_full": lokr(full=True),
    "lokr_both": lokr(both=True, shape=(144, 100)),
    "randlora_tall": randlora(12, 8),
    "randlora_wide": randlora(8, 12),
    "gralora": gralora(rank=4),
    "gralora_of_16_blocks": gralora(rank=4, blocks=4, shape=(8, 12)),
    "gralora_hybrid": gralora(rank=2, hybrid=3),
    "hira": Twin(
        HiRA(rank=3), HiraConfig(r=3, target_modules=["layer"]), lambda s: {"hira_A": s["a"], "hira_B": s["b"]}
    ),
    "lora": Twin(
        LoRA(rank=3, alpha=5.0), LoraConfig(r=3, lora_alpha=5, target_modules=["layer"], bias="none"), low_rank
    ),
    "rslora": Twin(
        LoRA(rank=3, alpha=5.0, rslora=True),
        LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=["layer"]),
        low_rank,
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_same_as_peft(name):
    the_same_as_peft(TWINS[name])
