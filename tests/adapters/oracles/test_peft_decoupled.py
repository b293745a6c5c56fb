"""The decoupled theme against PEFT's own modules."""

from __future__ import annotations

import pytest
from peft import DeloraConfig, LoraConfig

from adapterlab.adapters.decoupled.delora import DeLoRA
from adapterlab.adapters.decoupled.dora import DoRA
from tests.adapters.oracles.peft_layers import Twin, the_same_as_peft

TWINS = {
    # PEFT starts B at zero where the paper subtracts the start; the option does as PEFT does.
    "delora": Twin(
        DeLoRA(rank=3, boundary=5.0, zero_start=True),
        DeloraConfig(r=3, delora_lambda=5, target_modules=["layer"]),
        lambda s: {"delora_A": s["a"], "delora_B": s["b"], "delora_lambda": s["boundary"]},
        lambda s: {"delora_w_norm": s["norm"]},
    ),
    "dora": Twin(
        DoRA(rank=3, alpha=5.0),
        LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=["layer"]),
        lambda s: {
            "lora_A.weight": s["a"],
            "lora_B.weight": s["b"],
            "lora_magnitude_vector.weight": s["magnitude"],
        },
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_same_as_peft(name):
    the_same_as_peft(TWINS[name])
