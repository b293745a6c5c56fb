"""What is made again in the backward pass gives the same gradients as what was kept, and is not kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear as affine

from adapterlab.adapters import adapter, linear
from adapterlab.adapters.rebuild import built_linear, recomputed
from adapterlab.surgery import attach


def leaves(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def bent(a, b):
    return (a @ b).sin() * a.sum()


def lean_linear(x, bias, a, b):
    return built_linear(x, bias, bent, a, b)


def plain_linear(x, bias, a, b):
    return affine(x, bent(a, b), bias)


def test_the_gradients_are_right_by_finite_differences():
    assert torch.autograd.gradcheck(lambda a, b: recomputed(bent, a, b), leaves((5, 3), (3, 4)))
    assert torch.autograd.gradcheck(lean_linear, leaves((2, 3, 4), (5,), (5, 3), (3, 4)))


@pytest.mark.parametrize("still", [0, 1, 2, 3])
def test_what_needs_no_gradient_gets_none(still):
    given = leaves((6, 4), (5,), (5, 3), (3, 4))
    given[still].requires_grad_(False)
    moving = [t for t in given if t.requires_grad]
    ours, plain = (torch.autograd.grad(f(*given).square().sum(), moving) for f in (lean_linear, plain_linear))
    torch.testing.assert_close(ours, plain)


def test_under_autocast_the_weight_is_built_as_the_forward_pass_built_it():
    given = leaves((6, 4), (5,), (5, 3), (3, 4), dtype=torch.float32)
    found = []
    for f in (lean_linear, plain_linear):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = f(*given)
        assert y.dtype == torch.bfloat16
        found.append((y, *torch.autograd.grad(y.float().square().sum(), given)))
    torch.testing.assert_close(*found, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("over", [0, 2])
def test_gradients_of_many_states_in_one_pass(over):
    given = [t.detach() for t in leaves((6, 4), (5,), (5, 3), (3, 4))]
    many = torch.stack([given[over], 2 * given[over]])
    dims = tuple(0 if i == over else None for i in range(4))
    given[over] = many
    ours, plain = (
        torch.func.vmap(torch.func.grad(lambda *t, f=f: f(*t).square().sum(), argnums=(0, 1, 2, 3)), dims)(*given)
        for f in (lean_linear, plain_linear)
    )
    torch.testing.assert_close(ours, plain)


def test_only_what_was_given_is_kept():
    x, bias, a, b = leaves((6, 4), (5,), (5, 3), (3, 4))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        lean_linear(x, bias, a, b)
        recomputed(bent, a, b)
    assert set(kept) <= {t.data_ptr() for t in (x, a, b)}


@pytest.mark.parametrize(
    "method",
    [adapter("bone", block_size=4), adapter("shira", rank=2), adapter("fourierft", n=50)],
    ids=lambda m: m.name,
)
def test_a_built_weight_is_kept_if_it_is_small_and_gives_the_same_gradients(method, monkeypatch):
    torch.manual_seed(0)
    layer = nn.Linear(16, 8)
    model = nn.Sequential(layer)
    handle = attach(model, method)
    with torch.no_grad():
        for p in handle.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    x = torch.randn(40, 16, requires_grad=True)
    found = {}
    for most in (16 * 8, 16 * 8 - 1):
        monkeypatch.setattr(linear, "SMALL_WEIGHT", most)
        kept: list[torch.Size] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            y = model(x)
        built = [t for t in kept if t.numel() == 16 * 8 and t.data_ptr() != layer.weight.data_ptr()]
        assert bool(built) == (most == 16 * 8)
        found[most] = (y, *torch.autograd.grad(y.square().sum(), [x, *handle.parameters()]))
    torch.testing.assert_close(*found.values())
