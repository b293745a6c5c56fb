"""A measure of the change of one layer, and its value for random changes of the same norm.

>>> from adapterlab.geometry.measures.spectrum import stable_rank
>>> change = WeightChange("q", torch.zeros(8, 8), torch.eye(8))
>>> layer = Layer(change, torch_svd)
>>> stable_rank(layer)
8.0
>>> drawn = null_of(stable_rank, layer, draws=20)
>>> drawn.low < drawn.mean < drawn.high < 8
True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from adapterlab.adapters.context import Factors
from adapterlab.geometry.change import WeightChange
from adapterlab.geometry.result import Null

DRAWS = 20
"""Random changes that a null is estimated from."""


@dataclass(frozen=True, eq=False)
class Layer:
    """The change of one layer with the decompositions that measures share, each computed once."""

    change: WeightChange
    factors: Callable[[Tensor], Factors]
    """Singular value decomposition of a weight, cached."""

    @cached_property
    def of_base(self) -> Factors:
        """Singular value decomposition of the base weight."""
        return self.factors(self.change.base)

    @cached_property
    def of_delta(self) -> Factors:
        """Singular value decomposition of the change."""
        return self.factors(self.change.delta)

    def with_delta(self, delta: Tensor) -> Layer:
        """Return the layer with another change; the decomposition of the base is shared.

        Args:
            delta: The change, `(out, in)`.
        """
        other = Layer(WeightChange(self.change.path, self.change.base, self.change.base + delta), torch_svd)
        vars(other)["of_base"] = self.of_base
        return other


@dataclass(frozen=True)
class Measure:
    """One number of a layer's change."""

    name: str
    """Name in results and tests of claims, with the parameter in parentheses if there is one: `energy_in_top(0.1)`."""
    title: str
    """Title for reports."""
    explanation: str
    """Definition in one or two sentences, with its unit, and the source."""
    of: Callable[[Layer], float]
    """Computes it."""
    compared: bool = False
    """True if reports show it beside its value for random changes of the same norm."""


def null_of(of: Callable[[Layer], float], layer: Layer, draws: int = DRAWS, seed: int = 0) -> Null:
    """Return a measure's values for random changes, with independent normal entries and the norm of the change.

    Args:
        of: The measure.
        layer: The layer.
        draws: Number of random changes.
        seed: Seed of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(draws):
        noise = torch.randn(layer.change.shape, generator=generator, dtype=layer.change.base.dtype)
        values.append(of(layer.with_delta(noise * (layer.change.norm / torch.linalg.vector_norm(noise)))))
    low, high = np.quantile(values, (0.025, 0.975))
    return Null(float(np.mean(values)), float(low), float(high))


def torch_svd(weight: Tensor) -> Factors:
    """Return the singular value decomposition of a weight, uncached.

    Args:
        weight: `(out, in)`.
    """
    return Factors(*torch.linalg.svd(weight, full_matrices=False))
