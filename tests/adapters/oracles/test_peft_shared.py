"""The shared theme against PEFT's own modules."""

from __future__ import annotations

import pytest
import torch
from peft import MissConfig, ShiraConfig, VBLoRAConfig

from adapterlab.adapters.shared.bone import Bone
from adapterlab.adapters.shared.miss import MiSS
from adapterlab.adapters.shared.shira import SHiRA
from adapterlab.adapters.shared.vblora import VBLoRA
from tests.adapters.oracles.peft_layers import Twin, the_same_as_peft

TWINS = {
    "bone": Twin(
        Bone(block_size=4),
        MissConfig(r=4, init_weights="bat", target_modules=["layer"]),
        lambda s: {"miss_block": s["b"]},
    ),
    "miss": Twin(MiSS(rank=4), MissConfig(r=4, target_modules=["layer"]), lambda s: {"miss_block": s["d"].T}),
    "miss_with_a_remainder": Twin(
        MiSS(rank=3), MissConfig(r=3, target_modules=["layer"]), lambda s: {"miss_block": s["d"].T}
    ),
    "shira": Twin(
        SHiRA(rank=2),
        ShiraConfig(r=2, target_modules=["layer"]),
        lambda s: {"shira_weight": s["values"]},
        lambda s: {"shira_indices": torch.stack([s["entries"] // 8, s["entries"] % 8])},
    ),
    "vblora": Twin(
        VBLoRA(rank=3, vectors=10, length=4, top=2),
        VBLoRAConfig(r=3, num_vectors=10, vector_length=4, topk=2, target_modules=["layer"]),
        lambda s: {
            "vblora_logits_A": s["logits_a"],
            "vblora_logits_B": s["logits_b"],
            "vblora_vector_bank": s["bank"],
        },
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("name", TWINS)
def test_the_same_as_peft(name):
    the_same_as_peft(TWINS[name])
