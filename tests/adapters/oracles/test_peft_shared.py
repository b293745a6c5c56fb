"""The shared theme against PEFT's own modules."""

from __future__ import annotations

import pytest
import torch
from peft import FrodConfig, MissConfig, ShiraConfig, VBLoRAConfig, get_peft_model
from peft.tuners.frod.model import _projection_from_weights

from adapterlab.adapters import adapter
from adapterlab.adapters.shared.bone import Bone
from adapterlab.adapters.shared.frod import FRoD, joint_basis
from adapterlab.adapters.shared.miss import MiSS
from adapterlab.adapters.shared.shira import SHiRA
from adapterlab.adapters.shared.vblora import VBLoRA
from adapterlab.surgery import attach, parameter_count
from tests.adapters.oracles.peft_layers import Twin, the_same_as_peft
from tests.conftest import tiny_llama


def frod(shape):
    columns = shape[1]
    return Twin(
        FRoD(millionths=100_000),
        FrodConfig(sparse_rate=0.1, progressbar=False, target_modules=["layer"]),
        lambda s: {"frod_lambda_l": s["l"], "frod_lambda_s_values": s["s"]},
        lambda s: {
            "frod_U": s["u"],
            "frod_V": s["v"],
            "frod_s_indices": torch.stack([s["entries"] // columns, s["entries"] % columns]),
        },
        shape=shape,
    )


TWINS = {
    "frod": frod((12, 8)),
    "frod_wide": frod((8, 12)),
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


def test_frods_joint_basis_is_pefts_up_to_signs():
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(12, 8, generator=generator, dtype=torch.float64) for _ in range(3)]
    ours, theirs = joint_basis(weights, 0.001), _projection_from_weights(weights, 0.001)
    signs = torch.sign((ours * theirs).sum(0))
    torch.testing.assert_close(ours * signs, theirs, rtol=1e-8, atol=1e-8)


def test_frods_directions_are_shared_by_layers_at_the_same_place():
    handle = attach(tiny_llama(), adapter("frod"))
    first, second = (handle.sites[f"model.layers.{i}.self_attn.q_proj"].state for i in range(2))
    assert first["v"].data_ptr() == second["v"].data_ptr()
    assert torch.equal(first["entries"], second["entries"])
    assert not torch.equal(first["u"], second["u"])
    other = handle.sites["model.layers.0.self_attn.o_proj"].state
    assert not torch.equal(first["v"], other["v"])


def test_frod_trains_as_many_as_in_peft():
    config = FrodConfig(sparse_rate=0.1, progressbar=False, target_modules=["q_proj", "down_proj"])
    wrapped = get_peft_model(tiny_llama(), config)
    count = parameter_count(tiny_llama(), adapter("frod", millionths=100_000), ["q_proj", "down_proj"])
    assert count == wrapped.get_nb_trainable_parameters()[0]
