"""The methods of the singular basis, built densely from their formulas; and what their options promise."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.adapters.svd.pissa import as_lora
from tests.adapters.methods import context, moved

WEIGHT = torch.randn(12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def trained(method, weight=WEIGHT, size=0.2):
    return moved(method.init(weight, context(weight)), size=size)


@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_pissa_becomes_a_lora_of_twice_the_rank(strength):
    method = adapter("pissa", rank=3)
    state = trained(method)
    lora, as_state = as_lora(state)
    assert lora.rank == 6
    torch.testing.assert_close(lora.weight(as_state, WEIGHT, strength), method.weight(state, WEIGHT, strength))


def test_pissa_starts_from_a_randomized_decomposition():
    decaying = torch.linalg.qr(WEIGHT)[0] * 0.5 ** torch.arange(12) @ torch.linalg.qr(WEIGHT.T)[0].T
    exact, quick = (adapter("pissa", rank=2, iterations=i).init(decaying, context(decaying)) for i in (0, 4))
    torch.testing.assert_close(quick["b"] @ quick["a"], exact["b"] @ exact["a"], rtol=1e-6, atol=1e-9)
