"""Gradient and curvature at the start of training, against derivatives by torch on a tiny model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.autograd.functional import hvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Study, Training
from adapterlab.lab.trial import start_scale
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.start_scale import BATCHES, measure_start
from adapterlab.lab.trial.train import attach_adapter, batches, to_device_of
from tests.lab.tiny import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save_model(tmp_path_factory.mktemp("tiny") / "model"))


def context_of(model: str, method: str, **settings):
    study = Study(
        name="tiny", model=model, tasks=("prose",), contestants=(Contestant(adapter=method),), reference=method,
        training=Training(steps=20, batch=2, length=32, precision="float32"),
    )  # fmt: skip
    trial = resolve(study).trial("prose", adapter(method, **settings), "all-linear", 1.0, 1, 20, reported=False)
    return Runner().context(trial)


def exact(context) -> tuple[float, float, float]:
    """Slope, curvature and norm by double backward, with the signs of the gradient as the direction."""
    handle = attach_adapter(context, context.adapter)
    try:
        parameters = handle.parameters()
        data = [to_device_of(context.model, b) for b in batches(context.training_data, 2, BATCHES, 1)]

        def loss() -> torch.Tensor:
            return torch.stack([context.task.loss(context.model, b) / context.task.terms(b) for b in data]).mean()

        with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
            gradient = torch.autograd.grad(loss(), parameters, create_graph=True)
        direction = [-g.detach() / (g.detach().abs() + 1e-8) for g in gradient]
        slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
        products = torch.autograd.grad(slope, parameters, allow_unused=True)
        curvature = sum((p * d).sum() for p, d in zip(products, direction, strict=True) if p is not None)
        norm = torch.sqrt(sum(g.detach().square().sum() for g in gradient))
        return -slope.item(), curvature.item(), norm.item()
    finally:
        handle.detach()


@pytest.mark.parametrize("method", ["lora", "ia3", "hra", "full_ft"])
def test_slope_and_curvature_are_those_of_double_backward(model, method):
    context = context_of(model, method)
    found, (slope, curvature, norm) = measure_start(context), exact(context)
    assert found.slope == pytest.approx(slope, rel=1e-3)
    assert found.norm == pytest.approx(norm, rel=1e-3)
    assert found.curvature == pytest.approx(curvature, rel=0.05)
    assert found.rate == (pytest.approx(slope / curvature, rel=0.05) if curvature > 0 else None)


def test_on_a_quadratic_the_rate_is_that_of_the_lowest_loss(monkeypatch):
    """`hvp` of torch on a loss whose Hessian is known; the step is `slope / curvature` along the signs."""
    hessian = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
    start, direction = torch.tensor([0.4, -0.3]), None
    gradient = hessian @ start
    direction = -gradient.sign()
    _, product = hvp(lambda x: 0.5 * x @ hessian @ x, start, direction)
    assert product @ direction == pytest.approx((direction @ hessian @ direction).item())
    scale = start_scale.StartScale(-(gradient @ direction).item(), (product @ direction).item(), 1.0, 2)
    line = torch.linspace(0, 1, 10_001)
    losses = torch.stack([0.5 * (start + t * direction) @ hessian @ (start + t * direction) for t in line])
    assert scale.rate == pytest.approx(line[losses.argmin()].item(), abs=1e-3)


def test_the_model_is_left_as_it_was(model):
    context = context_of(model, "full_ft")
    before = {name: tensor.clone() for name, tensor in context.model.state_dict().items()}
    measure_start(context)
    after = context.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_it_is_the_same_when_measured_again_and_at_another_rate(model):
    context = context_of(model, "lora")
    again = replace(context, trial=replace(context.trial, lr=0.1))
    assert measure_start(context) == measure_start(context) == measure_start(again)


def test_a_batch_in_pieces_gives_the_same(model):
    context = context_of(model, "lora")
    pieces = replace(context, config=replace(context.config, micro_batch=1))
    assert measure_start(pieces).slope == pytest.approx(measure_start(context).slope, rel=1e-3)


def test_tensors_with_another_learning_rate_count_by_it(model):
    """With B at twice the rate, LoRA moves twice as far: A has no gradient at the start."""
    plain, twice = (measure_start(context_of(model, "lora", lr_ratio=ratio)) for ratio in (1.0, 2.0))
    assert twice.slope == pytest.approx(2 * plain.slope, rel=1e-4)
    assert twice.rate == pytest.approx(plain.rate / 2, rel=0.02)


def test_a_gradient_of_zero_is_named(model, monkeypatch):
    monkeypatch.setattr(
        start_scale._Loss, "gradient", lambda self: [torch.zeros_like(p) for p in self.handle.parameters()]
    )
    with pytest.raises(AdapterlabError, match="lora: the gradient at the start of training is zero"):
        measure_start(context_of(model, "lora"))
