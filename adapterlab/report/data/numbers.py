"""Numbers as the page holds them: six significant digits, and nothing that JSON lacks.

>>> rounded(1234567.0), rounded(float("inf")) is None
(1234570.0, True)
"""

from __future__ import annotations

import math

from adapterlab.lab.statistics import Paired

DIGITS = 6
"""Significant digits of numbers in the page."""


def rounded(value: float, digits: int = DIGITS) -> float | None:
    """Return a number with some significant digits; None if it is not finite.

    Args:
        value: The number.
        digits: Significant digits.
    """
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def effect(found: Paired | None) -> list[float | None] | None:
    """Return a mean with the limits of its interval, its p-value, and its number of pairs; None for no effect.

    Args:
        found: The effect.

    >>> from adapterlab.lab.statistics import paired
    >>> effect(paired([0.02, 0.03, 0.04]))
    [0.03, 0.00515862, 0.0548414, 0.0350987, 3]
    """
    if found is None:
        return None
    return [rounded(number) for number in (found.mean, found.low, found.high, found.p)] + [found.n]
