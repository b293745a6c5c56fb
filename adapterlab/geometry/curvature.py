"""Curvature: extreme eigenvalues of the Hessian of a training loss in an adapter's own parameters.

A quadratic loss is minimized by gradient descent at learning rates up to two over the largest eigenvalue. Lee et al. 2026
(arXiv 2602.04998, section 6) find that methods with larger top eigenvalues at the start have smaller best learning rates.

>>> from adapterlab.adapters import adapter
>>> model = nn.Sequential(nn.Linear(4, 4))
>>> found = curvature(model, adapter("lora", rank=1), lambda model: [model(torch.ones(1, 4)).square().sum()])
>>> found.largest > 0 > found.smallest  # LoRA starts at a saddle, since B is zero
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.attach import attach, seeded
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.model.where import ALL, Targets
from adapterlab.tasks.base import Task

Loss: TypeAlias = Callable[[nn.Module], Iterable[Tensor]]
"""Function of the model that yields the loss in parts, to be summed; each is differentiated before the next is asked for."""
TOLERANCE = 1e-2
"""Relative residual at which an eigenvalue is accepted."""
MOST = 300
"""Iterations of Lanczos, at most (the paper's limit)."""
SMALL = 32
"""Number of parameters up to which the whole Hessian is computed."""
_STEP = 1e-3
"""Step of central differences, relative to the norm of the parameters, or to one if that is smaller."""


@dataclass(frozen=True)
class Curvature:
    """Extreme eigenvalues of the Hessian of a loss, in its unit."""

    largest: float
    """Largest eigenvalue."""
    smallest: float
    """Smallest eigenvalue; negative at a saddle, such as the start of LoRA, where `B` is zero."""
    iterations: int
    """Hessian-vector products computed."""
    residual: float
    """Larger of the norms `|H v - lambda v|` of the two unit eigenvectors; each eigenvalue is within it of one of `H`."""
    parameters: int
    """Number of parameters."""
    exact: bool = True
    """False if Hessian-vector products are central differences of gradients, since a function in the loss is marked
    `once_differentiable`."""

    @property
    def largest_absolute(self) -> float:
        """Eigenvalue of the largest absolute value, with its sign."""
        return max(self.largest, self.smallest, key=abs)


def curvature(
    model: nn.Module,
    adapter: Adapter,
    loss: Loss,
    *,
    targets: Targets = ALL,
    seed: int = 0,
    prompted: bool | None = None,
    tolerance: float = TOLERANCE,
    most: int = MOST,
) -> Curvature:
    """Attach an adapter, measure the curvature of the loss at its start as `curvature_of` does, and detach it.

    Args:
        model: The base model.
        adapter: The method and its hyperparameters.
        loss: The loss; `training_loss` makes that of a task.
        targets: Places to adapt.
        seed: Seed of the adapter's start.
        prompted: As in `attach`.
        tolerance: Relative residual at which an eigenvalue is accepted.
        most: Iterations of Lanczos, at most.

    Returns:
        The curvature.

    Raises:
        AdapterlabError: The adapter does not fit, the loss does not depend on it, or Lanczos does not converge.
    """
    handle = attach(model, adapter, targets, seed=seed, prompted=prompted)
    try:
        return curvature_of(handle, loss, tolerance=tolerance, most=most, seed=seed)
    finally:
        handle.detach()


def curvature_of(
    handle: Handle,
    loss: Loss,
    *,
    sites: Sequence[str] | None = None,
    tolerance: float = TOLERANCE,
    most: int = MOST,
    seed: int = 0,
) -> Curvature:
    """Return the extreme eigenvalues of the Hessian of a loss in the present parameters of an attached adapter.

    The model is in evaluation mode during the call. Lanczos iteration (`scipy.sparse.linalg.eigsh`) finds both ends of the
    spectrum from Hessian-vector products, which are exact (double backward, with attention in plain matrix products) where
    the method supports it. A tensor that the method excludes from its gradient, such as DoRA's norm, counts as a constant.

    The paper measures one projection of a block at a time, `A` and `B` together; give its path to `sites` for that.

    Args:
        handle: The adapter.
        loss: The loss; `training_loss` makes that of a task.
        sites: Paths of the sites whose parameters vary; all trained parameters by default.
        tolerance: Relative residual at which an eigenvalue is accepted.
        most: Iterations of Lanczos, at most.
        seed: Seed of the starting vector, and of anything random in the forward pass.

    Returns:
        The curvature.

    Raises:
        AdapterlabError: A site is not adapted, the loss does not depend on the parameters or has no finite Hessian, or
            Lanczos does not converge.
    """
    products = _Products(handle, loss, _parameters(handle, sites), seed)
    training = handle.model.training
    handle.model.eval()
    try:
        return _extremes(products, tolerance, most, seed)
    finally:
        handle.model.train(training)


def training_loss(task: Task, batches: Sequence[Mapping[str, Tensor]]) -> Loss:
    """Return a task's mean training loss over some batches, weighted by their terms, as the paper's code weights tokens.

    Args:
        task: The task.
        batches: Rows of the task's training examples.
    """
    terms = sum(task.terms(batch) for batch in batches)

    def parts(model: nn.Module) -> Iterator[Tensor]:
        for batch in batches:
            yield task.loss(model, batch) / terms

    return parts


@dataclass
class _Products:
    """Products of the Hessian with vectors."""

    handle: Handle
    loss: Loss
    parameters: list[nn.Parameter]
    seed: int
    count: int = 0
    exact: bool = True

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self.parameters)

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """Return the product with a vector."""
        self.count += 1
        flat = torch.from_numpy(np.ascontiguousarray(vector, dtype=np.float64).reshape(-1))
        parts = flat.split([p.numel() for p in self.parameters])
        direction = [part.view(p.shape).to(p) for part, p in zip(parts, self.parameters, strict=True)]
        found = self._product(direction)
        product = torch.cat([h.double().flatten().cpu() for h in found]).numpy()
        if not np.isfinite(product).all():
            raise AdapterlabError(f"{self.handle.adapter.name}: the loss has no finite curvature: check the rows")
        return product

    def _product(self, direction: list[Tensor]) -> list[Tensor]:
        if self.exact:
            try:
                return self._double_backward(direction)
            except _NotTwiceDifferentiableError:
                self.exact = False
        return self._differences(direction)

    def _double_backward(self, direction: list[Tensor]) -> list[Tensor]:
        total = [torch.zeros_like(p) for p in self.parameters]
        with seeded(self.seed), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            for part in self.loss(self.handle.model):
                if self.count == 1 and _has_once_differentiable(part):
                    raise _NotTwiceDifferentiableError
                slope = sum(
                    ((g * d).sum() for g, d in zip(self._gradient(part, True), direction, strict=True)),
                    part.new_zeros(()),
                )
                if slope.requires_grad:
                    found = torch.autograd.grad(slope, self.parameters, materialize_grads=True)
                    for kept, new in zip(total, found, strict=True):
                        kept += new
        return total

    def _differences(self, direction: list[Tensor]) -> list[Tensor]:
        size = math.sqrt(sum(float(p.detach().double().square().sum()) for p in self.parameters))
        length = math.sqrt(sum(float(d.double().square().sum()) for d in direction)) or 1.0
        step = _STEP * max(size, 1.0) / length
        sides = []
        for sign in (1, -1):
            with _moved(self.parameters, direction, sign * step), seeded(self.seed), torch.enable_grad():
                total = [torch.zeros_like(p) for p in self.parameters]
                for part in self.loss(self.handle.model):
                    for kept, new in zip(total, self._gradient(part, False), strict=True):
                        kept += new
                sides.append(total)
        return [(ahead - behind) / (2 * step) for ahead, behind in zip(*sides, strict=True)]

    def _gradient(self, part: Tensor, create_graph: bool) -> tuple[Tensor, ...]:
        if not part.requires_grad:
            raise AdapterlabError("the loss does not depend on the adapter: run the model in it")
        return torch.autograd.grad(part, self.parameters, create_graph=create_graph, materialize_grads=True)


def _extremes(products: _Products, tolerance: float, most: int, seed: int) -> Curvature:
    size = products.size
    if size <= SMALL:
        whole = np.stack([products(row) for row in np.eye(size)])
        values, vectors = np.linalg.eigh((whole + whole.T) / 2)
        values, vectors = values[[0, -1]], vectors[:, [0, -1]]
        residual = whole @ vectors - vectors * values
    else:
        start = np.random.default_rng(seed).normal(size=size)
        operator = LinearOperator((size, size), matvec=products, dtype=np.float64)
        if not products(start).any():
            return Curvature(0.0, 0.0, products.count, 0.0, size, products.exact)
        try:
            values, vectors = eigsh(operator, k=2, which="BE", v0=start, tol=tolerance, maxiter=most)
        except ArpackNoConvergence as error:
            raise AdapterlabError(
                f"{products.handle.adapter.name}: the top eigenvalue did not converge in {products.count} products: give a "
                f"tolerance above {tolerance:g}, or more iterations than {most}"
            ) from error
        residual = np.stack([products(v) - value * v for value, v in zip(values, vectors.T, strict=True)], 1)
    worst = float(np.linalg.norm(residual, axis=0).max())
    return Curvature(float(values[-1]), float(values[0]), products.count, worst, size, products.exact)


def _parameters(handle: Handle, sites: Sequence[str] | None) -> list[nn.Parameter]:
    if sites is None:
        return handle.parameters()
    if unknown := [path for path in sites if path not in handle.sites]:
        raise AdapterlabError(f"{unknown[0]} is not adapted: give one of {', '.join(list(handle.sites)[:3])}, ...")
    return list(dict.fromkeys(p for path in sites for p in handle.sites[path].trained.values()))


class _NotTwiceDifferentiableError(Exception):
    """The loss has a function whose backward pass cannot be differentiated."""


def _has_once_differentiable(loss: Tensor) -> bool:
    """Return True if a function in the graph of a loss is marked `once_differentiable`.

    Autograd raises no error for such a function where the gradient that it receives is a constant, and leaves out its second
    derivative.
    """
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if hasattr(getattr(getattr(node, "_forward_cls", None), "backward", None), "__wrapped__"):
                return True
            waiting.extend(following for following, _ in node.next_functions)
    return False


@contextmanager
def _moved(parameters: Sequence[nn.Parameter], direction: Sequence[Tensor], step: float) -> Iterator[None]:
    """Yield with parameters moved along a direction; they have their own values again afterwards, bit for bit."""
    before = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
        yield
    finally:
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old)
