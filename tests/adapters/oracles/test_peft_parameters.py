"""LN tuning on a whole model against PEFT's."""

from __future__ import annotations

import peft
import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.conftest import tiny_gpt2


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
def test_ln_tuning_is_the_same_as_pefts(tokens):
    ours, theirs = tiny_gpt2().double(), tiny_gpt2().double()
    handle = attach(ours, adapter("ln_tuning"))
    theirs = peft.get_peft_model(theirs, peft.LNTuningConfig(target_modules=["ln_1", "ln_2", "ln_f"]))
    trained = {
        name.removeprefix("base_model.model.").replace("ln_tuning_layers.default.", ""): p
        for name, p in theirs.named_parameters()
        if p.requires_grad
    }
    assert set(trained) == set(handle.sites)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for path, site in handle.sites.items():
            delta = 0.1 * torch.randn(site.state["delta"].shape, generator=generator, dtype=torch.float64)
            site.state["delta"].copy_(delta)
            trained[path].add_(delta)
    for model in (ours, theirs):
        model(input_ids=tokens, labels=tokens).loss.backward()
    torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=1e-6, atol=1e-9)
    for path, site in handle.sites.items():
        torch.testing.assert_close(site.state["delta"].grad, trained[path].grad, rtol=1e-6, atol=1e-9)
    handle.merge()
    torch.testing.assert_close(
        ours.transformer.ln_f.weight, theirs.merge_and_unload().transformer.ln_f.weight, rtol=1e-6, atol=1e-9
    )
