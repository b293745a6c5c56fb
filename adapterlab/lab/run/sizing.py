"""Size each contestant's adapter to the budget, and flag sizes that are not near it.

>>> budget_flag(52_000, 160_000), budget_flag(150_000, 160_000), budget_flag(170_000, 160_000)
('below', '', 'above')
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.spec import Contestant
from adapterlab.surgery import parameter_count, sized


class SizedAdapter(NamedTuple):
    """A contestant's adapter after sizing."""

    adapter: Adapter
    parameters: int
    """Number of parameters that count against a budget: those of the finished adapter."""


def size_to_budget(contestant: Contestant, model: nn.Module, budget: int | None) -> SizedAdapter:
    """Return the contestant's adapter sized to the budget, or its smallest size if that is above the budget.

    Args:
        contestant: The contestant, with its settings and targets.
        model: The model that the adapter will be attached to; it is not changed.
        budget: Trained parameters, at most; None to keep the contestant's own size.

    Raises:
        AdapterlabError: If the adapter does not fit the model at all.
    """
    adapter = contestant.build()
    try:
        if budget is not None:
            adapter = sized(adapter, model, budget, contestant.targets, strict=False)
        count = adapter.counted(parameter_count(model, adapter, contestant.targets))
    except AdapterlabError as error:
        raise AdapterlabError(f"contestant {contestant.name!r} cannot run on this model: {error}") from error
    return SizedAdapter(adapter, count)


def budget_flag(parameters: int, budget: int | None) -> str:
    """Return `above` or `below` for a size that is not near the budget, else an empty string.

    Args:
        parameters: Number of trained parameters.
        budget: Trained parameters that were asked for; None for no budget. Less than half of it is `below`.
    """
    if budget is None or budget / 2 <= parameters <= budget:
        return ""
    return "above" if parameters > budget else "below"
