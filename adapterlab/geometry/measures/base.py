"""A measure of the change of one layer, and the families of measures that have a parameter.

>>> from adapterlab.geometry.measures.spectrum import stable_rank
>>> change = WeightChange("q", torch.zeros(8, 8), torch.eye(8))
>>> layer = Layer(change, torch_svd)
>>> round(stable_rank(layer), 4)
8.0
>>> drawn = null_of(stable_rank, layer, draws=20)
>>> drawn.low < drawn.mean < drawn.high < 8
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.context import Factors
from adapterlab.errors import AdapterlabError
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

    @property
    def decomposed(self) -> list[tuple[Tensor, Factors]]:
        """The change, and the base if a measure has asked for it, each with its decomposition."""
        found = [(self.change.delta, self.of_delta)]
        return [*found, (self.change.base, self.of_base)] if "of_base" in vars(self) else found

    @cached_property
    def coupling(self) -> Float[Tensor, "k k"]:
        """`U^T dW V`: the change between the base's left and right singular directions, `k = min(out, in)` of each."""
        u, _, vt = self.of_base
        return u.T @ self.change.delta @ vt.T

    @cached_property
    def energy(self) -> float:
        """Squared Frobenius norm of the change."""
        return self.change.norm**2

    def with_delta(self, delta: Tensor) -> Layer:
        """Return the layer with another change; the decomposition of the base is shared.

        Args:
            delta: The change, `(out, in)`.
        """
        change = WeightChange(self.change.path, self.change.base, self.change.base + delta)
        vars(change)["delta"] = delta  # without the rounding of the sum
        other = Layer(change, torch_svd)
        vars(other)["of_base"], vars(other)["_once"] = self.of_base, self._once
        return other

    @cached_property
    def memo(self) -> dict[object, Any]:
        """Further results that measures of this change share, by what they are of."""
        return {}

    def once(self, name: str, compute: Callable[[], float]) -> float:
        """Return a number that depends on the base alone, computed once for the layer and its random changes.

        Args:
            name: Name of the number.
            compute: Computes it.
        """
        if name not in self._once:
            self._once[name] = compute()
        return self._once[name]

    @cached_property
    def _once(self) -> dict[str, float]:
        return {}


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
    of_shape: bool = False
    """True if its distribution over random changes depends on the shape of the layer alone, so that one null is drawn for
    all layers of a shape: the measure is free of scale, and sees the base through its singular directions only."""
    directions: Callable[[int], int] | None = None
    """By the smaller side of a weight, the number of leading singular triplets of the base and of the change that it needs;
    None if it needs all of them. More are given where another measure needs them."""


@dataclass(frozen=True)
class Family:
    """Measures that differ in one parameter."""

    name: str
    """Name without the parameter."""
    parameter: str
    """Description of the parameter with its range, for error messages."""
    allowed: Callable[[float], bool]
    """Check of the parameter."""
    build: Callable[[float], Measure]
    """Builds the measure of an allowed parameter."""

    def __call__(self, value: float) -> Measure:
        """Return the measure with a parameter.

        Args:
            value: The parameter.

        Raises:
            AdapterlabError: The parameter is out of range.
        """
        if not self.allowed(value):
            raise AdapterlabError(f"{self.name}({value:g}): give {self.parameter}")
        return self.build(value)


def no_directions(length: int) -> int:
    """Return the number of singular triplets that a measure without any needs: 0.

    Args:
        length: Smaller side of a weight.
    """
    return 0


def is_share(value: float) -> bool:
    """Return True for a share, above 0 and at most 1.

    Args:
        value: The parameter of a family.
    """
    return 0 < value <= 1


def is_count(value: float) -> bool:
    """Return True for a whole number from 1 on.

    Args:
        value: The parameter of a family.
    """
    return value >= 1 and value % 1 == 0


def count_of(share: float, length: int) -> int:
    """Return the number of items that are a share of a sequence, rounded up, at least one.

    Args:
        share: The share.
        length: Length of the sequence.
    """
    return max(1, math.ceil(share * length - 1e-9))


def null_of(of: Callable[[Layer], float], layer: Layer, draws: int = DRAWS, seed: int = 0) -> Null:
    """Return a measure's values for random changes, with independent normal entries and the norm of the change.

    Args:
        of: The measure.
        layer: The layer.
        draws: Number of random changes.
        seed: Seed of the draws.
    """
    [found] = nulls_of([of], layer, draws, seed)
    return found


def nulls_of(measures: Sequence[Callable[[Layer], float]], layer: Layer, draws: int, seed: int) -> list[Null]:
    """Return several measures' values for the same random changes, as `null_of` does for one.

    Args:
        measures: The measures.
        layer: The layer.
        draws: Number of random changes.
        seed: Seed of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    values = np.empty((draws, len(measures)))
    for i in range(draws):
        noise = torch.randn(layer.change.shape, generator=generator, dtype=layer.change.base.dtype)
        drawn = layer.with_delta(noise * (layer.change.norm / torch.linalg.vector_norm(noise)))
        values[i] = [of(drawn) for of in measures]
    return [null_from(column.tolist()) for column in values.T]


def null_from(values: Sequence[float]) -> Null:
    """Return the mean and the 95 % interval of draws.

    Args:
        values: The draws.
    """
    low, high = np.quantile(values, (0.025, 0.975))
    return Null(float(np.mean(values)), float(low), float(high))


def torch_svd(weight: Tensor) -> Factors:
    """Return the singular value decomposition of a weight, uncached.

    Args:
        weight: `(out, in)`.
    """
    return Factors(*torch.linalg.svd(weight, full_matrices=False))
