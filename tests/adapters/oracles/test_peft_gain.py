"""The gain theme against PEFT's own modules."""

from __future__ import annotations

import pytest
from peft import IA3Config, VeraConfig

from adapterlab.adapters.context import Role
from adapterlab.adapters.gain.ia3 import IA3
from adapterlab.adapters.gain.vera import VeRA
from tests.adapters.oracles.peft_layers import Twin, the_same_as_peft

TWINS = {
    "ia3": Twin(
        IA3(),
        IA3Config(target_modules=["layer"], feedforward_modules=[]),
        lambda s: {"ia3_l": s["gain_out"][:, None]},
    ),
    "ia3_down": Twin(
        IA3(),
        IA3Config(target_modules=["layer"], feedforward_modules=["layer"]),
        lambda s: {"ia3_l": s["gain_in"][None]},
        role=Role.DOWN,
    ),
    "vera": Twin(
        VeRA(rank=6),
        VeraConfig(r=6, target_modules=["layer"]),
        lambda s: {"vera_lambda_d": s["gain_d"], "vera_lambda_b": s["gain_b"]},
        lambda s: {"vera_A": s["a"], "vera_B": s["b"]},
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_same_as_peft(name):
    the_same_as_peft(TWINS[name])
