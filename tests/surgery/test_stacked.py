"""An adapter above a trained one sees that one's weight, merged or not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import LINEAR, noisy, small


def moved_lora(model):
    """A LoRA whose change is of the size of the weights."""
    handle = attach(model, adapter("lora", rank=2, alpha=2.0), name="below")
    with torch.no_grad():
        for p in handle.parameters():
            p.normal_(generator=torch.Generator().manual_seed(p.numel()))
    return handle.requires_grad_(False)


@pytest.mark.parametrize("name", LINEAR)
def test_every_method_answers_alike_above_a_lora_that_is_merged_or_not(name, llama, tokens):
    below = moved_lora(llama)
    above = attach(llama, small(name), name="above")
    noisy(above.parameters())
    with torch.no_grad():
        apart = llama(tokens).logits
        below.merge()
        merged = llama(tokens).logits
        below.unmerge()
    assert apart.isfinite().all()
    assert (apart - merged).norm() < 1e-4 * merged.norm()


def test_doras_rows_change_in_length_by_what_its_magnitudes_changed_by():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5, bias=False))
    moved_lora(model)
    weight = model(torch.eye(6)).T.detach()
    above = attach(model, adapter("dora", rank=2, alpha=2.0), name="above")
    torch.testing.assert_close(model(torch.eye(6)).T, weight)
    state = above.sites["0"].state
    with torch.no_grad():
        state["b"].normal_()
        state["magnitude"].add_(torch.rand(5))
    moved = weight + state["b"] @ state["a"]
    length = weight.norm(dim=1) + state["magnitude"] - state["norm"]
    expected = moved / moved.norm(dim=1, keepdim=True) * length[:, None]
    torch.testing.assert_close(model(torch.eye(6)).T, expected)


def test_dora_leaves_a_row_of_zeros_as_it_is():
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        model[0].weight[1] = 0
    before = model(torch.eye(3))
    handle = attach(model, adapter("dora", rank=1))
    torch.testing.assert_close(model(torch.eye(3)), before)
    model(torch.eye(3)).sum().backward()
    assert all(p.grad.isfinite().all() for p in handle.parameters())
