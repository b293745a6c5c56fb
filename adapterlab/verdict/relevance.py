"""Weight of contests on a small model for claims about large ones.

>>> relevance(10**6), relevance(10**8), relevance(10**10)
(0.0, 0.5, 1.0)
"""

from __future__ import annotations

import math


def relevance(parameters: int) -> float:
    """Return the weight of contests on a model of this size for claims about larger ones, from 0 to 1.

    A stated convention: 0 at a million parameters, 1 at ten thousand million, linear in the logarithm between. It is the
    exponent on the likelihood, as in a power prior (Ibrahim and Chen 2000).

    Args:
        parameters: Number of parameters of the model that the contests were run on.
    """
    return min(1.0, max(0.0, (math.log10(parameters) - 6) / 4))
