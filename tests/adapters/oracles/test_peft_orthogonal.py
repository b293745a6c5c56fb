"""The orthogonal theme against PEFT's own modules."""

from __future__ import annotations

import pytest
from peft import HRAConfig, OFTConfig, RoadConfig

from adapterlab.adapters.orthogonal.hra import HRA
from adapterlab.adapters.orthogonal.oft import OFT
from adapterlab.adapters.orthogonal.oftv2 import OFTv2
from adapterlab.adapters.orthogonal.road import RoAd
from tests.adapters.oracles.functional import the_same_in_peft


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"block_size": 4}, {"oft_block_size": 4}),
        ({"block_count": 2}, {"r": 2, "oft_block_size": 0}),
        ({"block_size": 8, "block_share": True}, {"oft_block_size": 8, "block_share": True}),
        # PEFT does not multiply eps by the square of the block size, as the authors' code does.
        ({"block_size": 4, "coft": True, "eps": 0.1 / 16}, {"oft_block_size": 4, "coft": True, "eps": 0.1}),
    ],
)
def test_oft_is_the_same(ours, theirs):
    config = OFTConfig(use_cayley_neumann=False, **theirs)
    # PEFT's exact transform is (I - Q)(I + Q)^-1, the inverse of the paper's.
    the_same_in_peft(OFT(**ours), config, lambda s: {"oft_R.default.weight": -s["skew"]})


@pytest.mark.parametrize("terms", [4, 5, 6])
def test_oftv2_is_the_same(terms):
    config = OFTConfig(oft_block_size=4, num_cayley_neumann_terms=terms)
    method = OFTv2(block_size=4, neumann_terms=terms - 1)
    the_same_in_peft(method, config, lambda s: {"oft_R.default.weight": s["skew"]})


@pytest.mark.parametrize("strict", [False, True])
def test_hra_is_the_same(strict):
    config = HRAConfig(r=4, apply_GS=strict)
    the_same_in_peft(HRA(rank=4, strict=strict), config, lambda s: {"hra_u.default": s["normals"].T})


@pytest.mark.parametrize("variant", [1, 2, 4])
def test_road_is_the_same(variant):
    def tensors(state):
        # PEFT keeps, for variant 4, the diagonal's entries of a group (11, then 22) before the others (12, then 21).
        order = {1: [0], 2: [0, 1], 4: [0, 3, 1, 2]}[variant]
        return {
            name: state[ours][order].unflatten(1, (-1, 3)).transpose(0, 1).flatten()
            for name, ours in (("road_theta.default", "angles"), ("road_alpha.default", "scales"))
        }

    config = RoadConfig(variant=f"road_{variant}", group_size=6)
    the_same_in_peft(RoAd(variant=variant, group_size=6), config, tensors)
