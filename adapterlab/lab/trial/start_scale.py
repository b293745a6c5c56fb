"""Gradient and curvature of the loss at the start of training, along the direction of Adam's first step.

Adam's first step changes each trained number by the learning rate, against the sign of its gradient `g`. Along that
direction `d` the loss changes by `-rate * slope + rate ** 2 / 2 * curvature`, with `slope = -g . d` and
`curvature = d . H d`, where `H` is the Hessian. So the loss is lowest at the rate `slope / curvature`, a natural scale of
the learning rate.

Hessian-vector products are central differences of gradients, since a second backward pass is not supported everywhere (flash
attention, and the memory-saving backward passes of some methods).

>>> StartScale(slope=2.0, curvature=100.0, norm=0.1, parameters=400).rate
0.02
>>> StartScale(slope=2.0, curvature=-1.0, norm=0.1, parameters=400).rate is None
True
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.score import mode
from adapterlab.lab.trial.train import MicroBatches, attach_adapter, batches
from adapterlab.surgery import Handle, seeded

BATCHES = 2
"""Batches of training that the loss is the mean of."""
FIRST_STEP = 1e-4
"""Distance along the direction at which the curvature is measured first."""
RELATIVE_STEP = 0.01
"""Distance at which it is measured again, as a share of the rate found first."""
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class StartScale:
    """Scale of the loss at the start of training."""

    slope: float
    """Decrease of the loss for each unit of the learning rate: the sum of the sizes of all gradients."""
    curvature: float
    """Second derivative of the loss along the direction of the first step; negative where it bends down."""
    norm: float
    """Euclidean norm of the gradient of all trained parameters."""
    parameters: int
    """Number of trained scalars."""

    @property
    def rate(self) -> float | None:
        """Rate at which a first step would reach the lowest loss; None if the loss has no lowest point along it."""
        if not (self.slope > 0 and 0 < self.curvature < math.inf):
            return None
        return self.slope / self.curvature


def measure_start(context: TrialContext) -> StartScale:
    """Attach a trial's adapter, measure the loss at the start of its training, and detach it.

    Args:
        context: The resolved trial, with an adapter; its learning rate is not used.

    Returns:
        The scale.

    Raises:
        AdapterlabError: If the adapter cannot be attached to the model, or the gradient is not finite or zero.
    """
    assert context.adapter is not None
    handle = attach_adapter(context, context.adapter)
    try:
        with seeded(context.trial.seed), mode(context.model, training=True):
            config = context.config
            passes = MicroBatches(config.micro_batch or context.trial.batch, config.checkpointing)
            return _measure(_Loss(context, handle, passes), handle)
    finally:
        handle.detach()


@dataclass(frozen=True)
class _Loss:
    """Mean loss of the first batches as a function of the trained parameters."""

    context: TrialContext
    handle: Handle
    passes: MicroBatches

    def gradient(self) -> list[Tensor]:
        """Return the gradient of each trained parameter."""
        context, parameters, trial = self.context, self.handle.parameters(), self.context.trial
        found = [torch.zeros_like(p) for p in parameters]
        for batch in batches(context.training_data, trial.batch, BATCHES, trial.seed):
            self.passes(context.task, context.model, batch, self.handle)
            for total, parameter in zip(found, parameters, strict=True):
                if parameter.grad is not None:
                    total += parameter.grad / BATCHES
        context.model.zero_grad()
        return found


def _measure(loss: _Loss, handle: Handle) -> StartScale:
    parameters, gradient = handle.parameters(), loss.gradient()
    slope = sum(g.abs().sum().item() for g in gradient)
    norm = math.sqrt(sum(g.square().sum().item() for g in gradient))
    if not (math.isfinite(slope) and slope > 0):
        what = "zero" if slope == 0 else "not finite"
        raise AdapterlabError(f"{handle.adapter.name}: the gradient at the start of training is {what}: check the rows")
    ratios = {id(p): group["lr_ratio"] for group in handle.parameter_groups(1.0) for p in group["params"]}
    direction = [-ratios[id(p)] * g / (g.abs() + ADAM_EPSILON) for p, g in zip(parameters, gradient, strict=True)]
    slope = -_dot(gradient, direction)

    def curvature(step: float) -> float:
        with _moved(parameters, direction, step):
            ahead = loss.gradient()
        with _moved(parameters, direction, -step):
            behind = loss.gradient()
        return _dot([a - b for a, b in zip(ahead, behind, strict=True)], direction) / (2 * step)

    found = curvature(FIRST_STEP)
    if 0 < found < math.inf:
        found = curvature(RELATIVE_STEP * slope / found)
    return StartScale(slope, found, norm, sum(p.numel() for p in parameters))


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    return sum((a.double() * b.double()).sum().item() for a, b in zip(first, second, strict=True))


@contextmanager
def _moved(parameters: Sequence[nn.Parameter], direction: Sequence[Tensor], step: float) -> Iterator[None]:
    """Yield with parameters moved along a direction; they have their own values again afterwards, bit for bit."""
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for parameter, d in zip(parameters, direction, strict=True):
            parameter.add_(d, alpha=step)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
