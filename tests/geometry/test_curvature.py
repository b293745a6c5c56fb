"""Extreme eigenvalues of the Hessian are those of the whole matrix."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.curvature import curvature, curvature_of, training_loss
from adapterlab.surgery import attach
from adapterlab.tasks.prose import Prose
from tests.conftest import tiny_llama

INPUTS = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))


def loss(model: nn.Module):
    yield from ((model(x) - y).square().sum() / 16 for x, y in zip(INPUTS.chunk(2), TARGETS.chunk(2), strict=True))


def whole_hessian(model: nn.Module, parameters) -> torch.Tensor:
    """The Hessian by `torch.func`, in the trained parameters of a model."""
    names = {name: p for name, p in model.named_parameters() if any(p is trained for trained in parameters)}
    shapes = {name: p.shape for name, p in names.items()}

    def of(flat):
        parts = flat.split([shape.numel() for shape in shapes.values()])
        values = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return (functional_call(model, values, INPUTS) - TARGETS).square().sum() / 16

    return hessian(of)(torch.cat([p.detach().flatten() for p in names.values()])).detach().double()


@pytest.mark.parametrize("name", ["lora", "pissa", "ia3", "oft", "vera"])
def test_eigenvalues_are_those_of_the_whole_hessian(name):
    model = tiny()
    method = {"oft": {"block_size": 2}, "ia3": {}, "vera": {"rank": 4}}.get(name, {"rank": 2})
    handle = attach(model, adapter(name, **method))
    expected = torch.linalg.eigvalsh(whole_hessian(model, handle.parameters()))
    found = curvature_of(handle, loss, tolerance=1e-6)
    assert found.parameters == len(expected)
    assert found.largest == pytest.approx(float(expected[-1]), rel=1e-3)
    assert found.smallest == pytest.approx(float(expected[0]), rel=1e-3, abs=1e-4)
    assert found.largest_absolute == pytest.approx(float(max(expected[[0, -1]], key=abs)), rel=1e-3)
    assert found.exact


def test_every_eigenvalue_is_within_the_residual_of_one_of_the_hessian():
    model = tiny()
    handle = attach(model, adapter("lora", rank=4))
    expected = torch.linalg.eigvalsh(whole_hessian(model, handle.parameters()))
    found = curvature_of(handle, loss, tolerance=0.3)
    for value in (found.largest, found.smallest):
        assert (expected - value).abs().min() <= found.residual + 1e-5


def test_lora_starts_at_a_saddle_and_a_scaled_loss_scales_the_curvature():
    one = curvature(tiny(), adapter("lora", rank=4), loss, tolerance=1e-4)
    ten = curvature(tiny(), adapter("lora", rank=4), lambda model: (10 * part for part in loss(model)), tolerance=1e-4)
    assert one.smallest < 0 < one.largest
    assert ten.largest == pytest.approx(10 * one.largest, rel=1e-3)


def test_a_quadratic_loss_has_its_closed_form():
    # The Hessian of |X W^T - Y|^2 / 2 in W is X^T X for each row of W.
    model = nn.Sequential(nn.Linear(6, 4, bias=False))
    handle = attach(model, adapter("full_ft"))
    found = curvature_of(handle, lambda model: [(model(INPUTS) - TARGETS).square().sum() / 2])
    top = float(torch.linalg.matrix_norm(INPUTS, 2)) ** 2
    assert found.largest == pytest.approx(top, rel=1e-3)


def test_the_parameters_of_some_sites_alone_can_vary():
    model = tiny()
    handle = attach(model, adapter("lora", rank=2))
    expected = torch.linalg.eigvalsh(whole_hessian(model, list(handle.sites["2"].trained.values())))
    found = curvature_of(handle, loss, sites=["2"], tolerance=1e-6)
    assert found.parameters == 2 * (8 + 4)
    assert found.largest == pytest.approx(float(expected[-1]), rel=1e-3)
    with pytest.raises(AdapterlabError, match="7 is not adapted"):
        curvature_of(handle, loss, sites=["7"])


def test_a_method_without_a_second_backward_pass_is_measured_by_differences():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square().sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return 2 * ctx.saved_tensors[0] * gradient

    def once(model):
        return [Once.apply(model(INPUTS) - TARGETS) / 16]

    exact = curvature(tiny(), adapter("pissa", rank=4), loss, tolerance=1e-3)
    found = curvature(tiny(), adapter("pissa", rank=4), once, tolerance=1e-3)
    assert exact.exact
    assert not found.exact
    assert found.largest == pytest.approx(exact.largest, rel=0.01)


def test_the_model_is_as_before():
    model = tiny().train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    curvature(model, adapter("pissa", rank=2), loss)
    assert model.training
    assert list(before) == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_of_a_language_model_is_differentiated_twice(attention):
    model = tiny_llama()
    model.set_attn_implementation(attention)
    ids = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "scored": torch.ones_like(ids, dtype=torch.bool)}
    found = curvature(model, adapter("lora", rank=1), training_loss(Prose(), [batch]))
    assert found.exact
    assert found.largest > 0


def test_a_tasks_loss_is_the_mean_over_all_terms():
    model, task = tiny_llama(), Prose()
    scored = torch.ones(2, 9, dtype=torch.bool)
    scored[0, 4:] = False
    ids = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": ids[i : i + 1], "scored": scored[i : i + 1]} for i in range(2)]
    whole = {"input_ids": ids, "scored": scored}
    with torch.no_grad():
        parts, together = (sum(training_loss(task, batches)(model)) for batches in (rows, [whole]))
        assert float(parts) == pytest.approx(float(together), rel=1e-5)
        assert float(together) == pytest.approx(float(task.loss(model, whole)) / (3 + 8), rel=1e-5)


def test_a_loss_without_the_adapter_or_without_a_finite_value_is_refused():
    with pytest.raises(AdapterlabError, match="does not depend on the adapter"):
        curvature(tiny(), adapter("lora", rank=2), lambda model: [torch.ones(())])
    with pytest.raises(AdapterlabError, match="no finite curvature"):
        curvature(tiny(), adapter("lora", rank=2), lambda model: [model(INPUTS / 0).square().sum()])


def test_lanczos_that_does_not_converge_is_refused():
    with pytest.raises(AdapterlabError, match="did not converge"):
        curvature(tiny(), adapter("full_ft"), loss, tolerance=1e-12, most=1)
