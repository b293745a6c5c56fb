"""The decoupled theme against PEFT's own modules."""

from __future__ import annotations

import pytest
from peft import LoraConfig

from adapterlab.adapters.decoupled.dora import DoRA
from tests.adapters.oracles.peft_layers import Twin, the_same_as_peft

TWINS = {
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
