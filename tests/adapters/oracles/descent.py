"""Training steps of two implementations of the same method, and gradients that come from no automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

SGD = partial(torch.optim.SGD, lr=0.3, momentum=0.9)
ADAMW = partial(torch.optim.AdamW, lr=0.02, weight_decay=0.01)


def descend(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    optimizer: Callable[[Sequence[Tensor]], torch.optim.Optimizer],
    steps: int = 4,
) -> list[float]:
    """Take a few optimizer steps, and return the loss before each and after the last."""
    descent, losses = optimizer(parameters), []
    for _ in range(steps):
        value = loss()
        losses.append(value.item())
        descent.zero_grad()
        value.backward()
        descent.step()
    with torch.no_grad():
        return [*losses, loss().item()]


def agree(ours: object, theirs: object) -> None:
    """Assert that tensors or losses are the same up to rounding in float64."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-10)


def same_descent(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Assert that two runs have the same losses, and that they got somewhere."""
    assert ours[-1] < ours[0] - 1e-2, ours
    agree(torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64))


def complex_step(function: Callable[..., np.ndarray], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the gradients of an analytic function, exact to rounding: the imaginary part of `f(x + i h)`, over `h`.

    All entries of an array are moved in one call, each in a batch entry of its own.
    """
    step, gradients = 1e-30, []
    for index, array in enumerate(arrays):
        moved = [np.broadcast_to(a, (array.size, *a.shape)).astype(complex) for a in arrays]
        moved[index] += 1j * step * np.eye(array.size).reshape(array.size, *array.shape)
        gradients.append(function(*moved).imag.reshape(array.shape) / step)
    return gradients


def descend_by_hand(
    function: Callable[..., np.ndarray], arrays: Sequence[np.ndarray], lr: float, momentum: float, steps: int
) -> list[np.ndarray]:
    """Return where gradient descent with momentum ends, without torch."""
    arrays, velocity = [a.copy() for a in arrays], [np.zeros(a.shape) for a in arrays]
    for _ in range(steps):
        for array, v, gradient in zip(arrays, velocity, complex_step(function, arrays), strict=True):
            v[...] = momentum * v + gradient
            array -= lr * v
    return arrays
