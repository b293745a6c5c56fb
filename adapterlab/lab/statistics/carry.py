"""Correlation of the differences between methods from one model size and amount of training to another.

Differences between methods are taken as a Gaussian process over the logarithms of the model's size and of the training
examples, with the product of two exponential kernels: the correlation falls by a fixed factor with each decade of both.
Evidence at one place says something of another one, but never more than the correlation allows, however precise it is.

>>> carry = Carry(size=2.9, examples=2.9)
>>> round(carry.correlation(Place(3e6, 1e4), Place(3e8, 1e4)), 2)
0.5
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LONG = 1e5
"""Training examples of a usual full training, in place of an unknown number."""


@dataclass(frozen=True)
class Place:
    """Model size and amount of training, of a contest or of what a claim is about."""

    parameters: float
    """Parameters of the base model; 0 for a place that nothing is known of."""
    examples: float | None = None
    """Training examples that were seen; None if not known, for which `LONG` is taken."""


@dataclass(frozen=True)
class Carry:
    """Lengths of the two kernels, in decades: at this distance the correlation is exp(-1)."""

    size: float
    examples: float

    def correlation(self, a: Place, b: Place) -> float:
        """Return the correlation of the differences between methods at two places, from 0 to 1.

        Args:
            a: A place.
            b: Another one.
        """
        return math.exp(-size_decades(a, b) / self.size - example_decades(a, b) / self.examples)

    def at_correlation(self, correlation: float, target: Place) -> Place:
        """Return the place of a smaller model whose correlation with another place has a given value.

        Args:
            correlation: From 0 to 1.
            target: The other place.
        """
        decades = -math.log(correlation) * self.size if correlation > 0 else math.inf
        return Place(target.parameters / 10**decades if decades < 300 else 0.0, target.examples)


def size_decades(a: Place, b: Place) -> float:
    """Return the distance of two places in model size, in decades.

    Args:
        a: A place.
        b: Another one.
    """
    return _decades(a.parameters, b.parameters)


def example_decades(a: Place, b: Place) -> float:
    """Return the distance of two places in training examples, in decades.

    An unknown number must stand for one number: as no difference from all others it would give no covariance.

    Args:
        a: A place.
        b: Another one.
    """
    return _decades(a.examples or LONG, b.examples or LONG)


def _decades(a: float, b: float) -> float:
    if a == b:
        return 0.0
    return abs(math.log10(a / b)) if a > 0 and b > 0 else math.inf
