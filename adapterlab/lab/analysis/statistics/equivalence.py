"""Whether two are the same for all that matters: two one-sided tests."""

from __future__ import annotations

import math

from scipy.special import stdtr

from adapterlab.lab.analysis.statistics.paired import Paired


def equivalence(effect: Paired, within: float) -> float:
    """P-value against "the mean differs by `within` or more": the larger of two one-sided t-tests (Schuirmann 1987).

    Small means that the two are the same within the margin. Where nothing is known of the error, it is 1.
    """
    if not math.isfinite(effect.error) or math.isnan(effect.mean):
        return 1.0
    if effect.error == 0:
        return 0.0 if abs(effect.mean) < within else 1.0
    return float(stdtr(effect.df, (abs(effect.mean) - within) / effect.error))
