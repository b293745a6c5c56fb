"""Classes of weight changes that the hypotheses allow, and the nearest member of each to a given change.

>>> list(all_hypotheses())[:1]
['low_rank']
"""

from __future__ import annotations

from collections.abc import Mapping

from adapterlab.errors import UnknownNameError
from adapterlab.geometry.hypotheses.base import Hypothesis
from adapterlab.geometry.hypotheses.low_rank import LowRank

_ALL: tuple[Hypothesis, ...] = (LowRank(),)


def all_hypotheses() -> Mapping[str, Hypothesis]:
    """Return all hypotheses by name."""
    return {each.name: each for each in _ALL}


def hypothesis(name: str) -> Hypothesis:
    """Return a hypothesis.

    Args:
        name: Its name, or that of an adapter that states it, such as `lora`.

    Raises:
        UnknownNameError: There is none of that name.
    """
    for each in _ALL:
        if name == each.name or name in each.adapters:
            return each
    raise UnknownNameError("hypothesis", name, [*all_hypotheses(), *(a for each in _ALL for a in each.adapters)])
