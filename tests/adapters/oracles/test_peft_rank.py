"""The rank theme against PEFT's own modules."""

from __future__ import annotations

import pytest
from peft import LoraConfig

from adapterlab.adapters.rank.lora import LoRA
from tests.adapters.oracles.peft_layers import Twin, the_same_as_peft


def low_rank(state):
    return {"lora_A.weight": state["a"], "lora_B.weight": state["b"]}


TWINS = {
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
