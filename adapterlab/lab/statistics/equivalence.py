"""Equivalence of two contestants within a margin, by two one-sided tests.

>>> from adapterlab.lab.statistics.paired import paired
>>> equivalence(paired([0.001, -0.002, 0.0015, 0.0002]), within=0.01) < 0.001
True
>>> inferiority(paired([-0.011, -0.009, -0.010]), within=0.005) < 0.001  # far below the margin, though not equivalent
True
"""

from __future__ import annotations

import math

from scipy.special import stdtr

from adapterlab.lab.statistics.evalues import e_value
from adapterlab.lab.statistics.paired import Paired


def inferiority(effect: Paired, within: float) -> float:
    """Return the p-value of the hypothesis that the mean is `within` or more, by a one-sided t-test.

    Args:
        effect: The mean of paired differences with its error, such as those of a rival less a contestant.
        within: The margin, positive, in the unit of the mean.

    Returns:
        The p-value; small means that the rival is not better by the margin. It is 1 if the error is unknown.
    """
    if not math.isfinite(effect.error) or math.isnan(effect.mean):
        return 1.0
    if effect.error == 0:
        return 0.0 if effect.mean < within else 1.0
    if effect.scale:
        return 1.0 if effect.mean >= within else min(1.0, 1 / e_value(effect, effect.scale, null=within))
    return float(stdtr(effect.df, (effect.mean - within) / effect.error))


def equivalence(effect: Paired, within: float) -> float:
    """Return the p-value of the hypothesis that the mean differs from zero by `within` or more.

    It is the larger one of two one-sided t-tests (Schuirmann 1987). For an estimate that holds at any time it is that of the
    e-value against the nearer limit.

    Args:
        effect: The mean of paired differences with its error.
        within: The margin, positive, in the unit of the mean.

    Returns:
        The p-value; small means equivalent within the margin. It is 1 if the error is unknown.
    """
    if not math.isfinite(effect.error) or math.isnan(effect.mean):
        return 1.0
    if effect.error == 0:
        return 0.0 if abs(effect.mean) < within else 1.0
    if effect.scale:
        beyond = abs(effect.mean) >= within
        nearest = math.copysign(within, effect.mean)
        return 1.0 if beyond else min(1.0, 1 / e_value(effect, effect.scale, null=nearest))
    return float(stdtr(effect.df, (abs(effect.mean) - within) / effect.error))
