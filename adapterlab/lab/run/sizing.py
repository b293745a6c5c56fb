"""A contestant brought to the budget, or as near as it can be, and whether that is near enough to compare."""

from __future__ import annotations

from torch import nn

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.spec import Contestant
from adapterlab.surgery import parameter_count, sized


def fitted(contestant: Contestant, model: nn.Module, budget: int | None) -> Adapter:
    """The contestant's adapter as it will run: sized to the budget, or its smallest size if that is above.

    Raises `AdapterlabError` naming the contestant if the adapter does not fit the model at all.
    """
    adapter = contestant.build()
    try:
        if budget is not None:
            adapter = sized(adapter, model, budget, contestant.targets, strict=False)
        parameter_count(model, adapter, contestant.targets)
    except AdapterlabError as error:
        raise AdapterlabError(f"contestant {contestant.name!r} cannot run on this model: {error}") from error
    return adapter


def flag(parameters: int, budget: int | None) -> str:
    """`above` or `below` where so many trained parameters are not near the budget (below: less than half); else nothing."""
    if budget is None or budget / 2 <= parameters <= budget:
        return ""
    return "above" if parameters > budget else "below"
